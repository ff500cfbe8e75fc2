"""Interventions on language models: what happens to losses, sinks and residual peaks without a part.

Inputs: checkpoints, as for measuring. Outputs: per checkpoint what became of it, and beside it three
tables of effects; the run's tables of effects.
"""


# As with measuring, the tables of a checkpoint are known by a digest and not declared.
rule intervene:
    input:
        unpack(embedded),
        batches=f"{RESULTS}/batches/{{suite}}.parquet",
    output:
        f"{RESULTS}/intervened/{{suite}}/.bundles/{{revision}}.parquet",
    log:
        f"{RESULTS}/logs/intervene/{{suite}}/{{revision}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/intervene/{{suite}}/{{revision}}.tsv"
    priority: 8
    threads: share(CONFIG.probe.threads)
    resources:
        mem_mb=lambda wildcards, attempt: needs_of_changed(wildcards).memory_mb * 2 ** (attempt - 1),
        runtime=lambda wildcards, attempt: needs_of_changed(wildcards).minutes * attempt,
        disk_mb=lambda wildcards: needs_of_changed(wildcards).disk_mb,
        hub_connections=connections,
    params:
        config=RESOLVED,
        where_from=where_from,
        decided=lambda wildcards: decided(INTERVENE, wildcards.suite, [wildcards.revision]),
        folder=subpath(output[0], ancestor=2),
        code=code_digest("trajectory.jobs.bundle"),
    shell:
        "trajectory intervene {wildcards.suite} {wildcards.revision} --config {params.config}"
        " {params.where_from} --batches {input.batches} --output {params.folder}"
        " --bundle {output} > {log} 2>&1"


rule gather_effects:
    input:
        parts=intervened,
    output:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=EFFECT_TABLES),
    log:
        f"{RESULTS}/logs/gather_effects.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather_effects.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        parts=lambda wildcards, input: "\n".join(input.parts),
        tables=",".join(EFFECT_TABLES),
        to=subpath(output[0], parent=True),
        config=RESOLVED,
        code=code_digest("trajectory.jobs.parts", "trajectory.tables"),
    shell:
        "trajectory tables gather --config {params.config} --parts - --output {params.to}"
        " --tables {params.tables} > {log} 2>&1 <<'PARTS'\n{params.parts}\nPARTS"
