"""Checkpoints of language models.

Inputs: the config's suites. Outputs: the embedded suite's revisions; per suite a manifest, and the
token batches on which its checkpoints are measured.
"""

NANO_STEPS = CONFIG.suites.nano_olmo.checkpoint_steps() if CONFIG.suites.nano_olmo else []
NANO_REVISIONS = [revision_name(step) for step in NANO_STEPS]


rule nano_pretrain:
    output:
        directory(f"{RESULTS}/suites/nano-olmo"),
    log:
        f"{RESULTS}/logs/nano_pretrain.log",
    benchmark:
        f"{RESULTS}/benchmarks/nano_pretrain.tsv"
    priority: 10
    threads: share(1)
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        config=RESOLVED,
        suite=values(CONFIG.suites),
        code=code_digest("trajectory.suites.nano"),
    shell:
        "trajectory suites pretrain --config {params.config} --output {output}" " 2>&1 | tee {log}"


rule manifest:
    input:
        f"{RESULTS}/suites/{{suite}}",
    output:
        f"{RESULTS}/manifests/{{suite}}.parquet",
    log:
        f"{RESULTS}/logs/manifest/{{suite}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/manifest/{{suite}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=RESOLVED,
        suite=values(CONFIG.suites),
        code=code_digest("trajectory.suites.manifest"),
    shell:
        "trajectory suites manifest {wildcards.suite} --config {params.config}"
        " --folder {input} --output {output} > {log} 2>&1"


rule batches:
    input:
        f"{RESULTS}/suites/{{suite}}",
    output:
        f"{RESULTS}/batches/{{suite}}.parquet",
    log:
        f"{RESULTS}/logs/batches/{{suite}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/batches/{{suite}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        tokenizer=f"{RESULTS}/suites/{{suite}}/tokenizer",
        config=RESOLVED,
        probe=values_digest(CONFIG.probe.of_batches()),
        code=code_digest("trajectory.suites.batches"),
    shell:
        "trajectory suites batches {wildcards.suite} --config {params.config}"
        " --tokenizer {params.tokenizer} --output {output} > {log} 2>&1"
