"""Checkpoints of language models.

Inputs: the config's suites. Outputs: the embedded suite's revisions; per suite a manifest, the
selection that pins what is measured, a tokenizer, and the token batches of the probe.
"""


rule nano_pretrain:
    output:
        directory(f"{RESULTS}/suites/{{suite}}"),
    log:
        f"{RESULTS}/logs/nano_pretrain/{{suite}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/nano_pretrain/{{suite}}.tsv"
    wildcard_constraints:
        suite=OWN,
    # The longest chain of jobs is a language model's, so each of its jobs goes before the toys.
    priority: 10
    threads: share(1)
    resources:
        mem_mb=growing(3000),
        runtime=growing(pretraining_minutes(CONFIG)),
    params:
        config=RESOLVED,
        suite=lambda wildcards: values_digest(EMBEDDED[wildcards.suite].training()),
        code=code_digest("trajectory.nano.pretrain"),
    shell:
        "trajectory suites pretrain {wildcards.suite} --config {params.config} --output {output}"
        # What ended it is also told here: the log may lie on a disk that is full.
        " 2>&1 | tee {log} | (grep '^error: ' || true)"


rule manifest:
    input:
        f"{RESULTS}/suites/{{suite}}",
    output:
        manifest_path("{suite}"),
    log:
        f"{RESULTS}/logs/manifest/{{suite}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/manifest/{{suite}}.tsv"
    wildcard_constraints:
        suite=OWN,
    priority: 8
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        config=RESOLVED,
        suite=lambda wildcards: EMBEDDED[wildcards.suite].checkpoint_steps(),
        code=code_digest("trajectory.checkpoints.manifest"),
    shell:
        "trajectory suites manifest {wildcards.suite} --config {params.config}"
        " --folder {input} --output {output} > {log} 2>&1"


# One step for all suites, and never part of a group. A suite that cannot be pinned is left out, the
# others are measured. Manifests and selections are not declared: they are for people to edit, and
# code that changes does not list again: `trajectory suites pin` does, by hand.
checkpoint pin:
    output:
        LEFT_OUT,
    log:
        f"{RESULTS}/logs/pin.log",
    benchmark:
        f"{RESULTS}/benchmarks/pin.tsv"
    priority: 8
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(120),
        hub_connections=1,
    params:
        config=RESOLVED,
        tried_before=TRIED_BEFORE,
    shell:
        "trajectory suites pin --go-on --config {params.config} 2>&1 | tee {log}"


rule tokenizer:
    input:
        lambda wildcards: pinned(wildcards.suite) and [],
    output:
        directory(f"{RESULTS}/tokenizers/{{suite}}"),
    log:
        f"{RESULTS}/logs/tokenizer/{{suite}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tokenizer/{{suite}}.tsv"
    priority: 8
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
        hub_connections=connections,
    params:
        config=RESOLVED,
    shell:
        "trajectory suites tokenizer {wildcards.suite} --config {params.config} --output {output}"
        " > {log} 2>&1"


rule batches:
    input:
        lambda wildcards: probe_files(CONFIG),
        tokenizer=tokenizer_of,
    output:
        f"{RESULTS}/batches/{{suite}}.parquet",
    log:
        f"{RESULTS}/logs/batches/{{suite}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/batches/{{suite}}.tsv"
    priority: 8
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        tokenizer=lambda wildcards, input: (
            f"{input.tokenizer}/tokenizer" if wildcards.suite in EMBEDDED else input.tokenizer
        ),
        config=RESOLVED,
        probe=lambda wildcards: values_digest(probe_of(CONFIG, wildcards.suite).of_batches()),
        code=code_digest("trajectory.jobs.batches"),
    shell:
        "trajectory suites batches {wildcards.suite} --config {params.config}"
        " --tokenizer {params.tokenizer} --output {output} > {log} 2>&1"
