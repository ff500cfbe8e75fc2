"""Forces on sinks and their values: what descent does to them.

Inputs: checkpoints, as for measuring, and Bigram-Backcopy runs. Outputs: per checkpoint what became
of it, and beside it three tables of forces; the run's tables of forces.
"""


# As with measuring, the tables of a checkpoint are known by a digest and not declared.
rule forces:
    input:
        unpack(embedded),
        batches=f"{RESULTS}/batches/{{suite}}.parquet",
    output:
        f"{RESULTS}/forces/{{suite}}/.bundles/{{bundle}}.parquet",
    log:
        f"{RESULTS}/logs/forces/{{suite}}/{{bundle}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/forces/{{suite}}/{{bundle}}.tsv"
    priority: 9
    threads: share(CONFIG.probe.threads)
    resources:
        mem_mb=lambda wildcards, attempt: needs_of_forces(wildcards).memory_mb * 2 ** (attempt - 1),
        runtime=lambda wildcards, attempt: needs_of_forces(wildcards).minutes * attempt,
        disk_mb=lambda wildcards: needs_of_forces(wildcards).disk_mb,
        hub_connections=connections,
    params:
        revisions=lambda wildcards: forced_bundle(wildcards).revisions,
        config=RESOLVED,
        where_from=where_from,
        decided=lambda wildcards: decided(
            FORCES, wildcards.suite, forced_bundle(wildcards).revisions
        ),
        folder=subpath(output[0], ancestor=2),
        code=code_digest("trajectory.jobs.bundle"),
    shell:
        "trajectory forces {wildcards.suite} {params.revisions} --config {params.config}"
        " {params.where_from} --batches {input.batches} --output {params.folder}"
        " --bundle {output} > {log} 2>&1"


rule gather_forces:
    input:
        expand("{part}/{table}.parquet", part=FORCED_PARTS, table=FORCE_TABLES),
        forced=forced if CONFIG.probe.forces else [],
    output:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=FORCE_TABLES),
    log:
        f"{RESULTS}/logs/gather_forces.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather_forces.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        parts=lambda wildcards, input: "\n".join([*FORCED_PARTS, *input.get("forced", [])]),
        tables=",".join(FORCE_TABLES),
        to=subpath(output[0], parent=True),
        config=RESOLVED,
        code=code_digest("trajectory.jobs.parts", "trajectory.tables"),
    shell:
        "trajectory tables gather --config {params.config} --parts - --output {params.to}"
        " --tables {params.tables} > {log} 2>&1 <<'PARTS'\n{params.parts}\nPARTS"
