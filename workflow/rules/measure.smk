"""Measuring checkpoints, and gathering all measurements.

Inputs: checkpoints and their manifest; all measured tables. Outputs: the three tables of each
checkpoint; the run's tables.
"""


rule measure:
    input:
        suite=f"{RESULTS}/suites/{{suite}}",
        manifest=f"{RESULTS}/manifests/{{suite}}.parquet",
        batches=f"{RESULTS}/batches/{{suite}}.parquet",
    output:
        expand(
            "{results}/measured/{{suite}}/{{revision}}/{table}.parquet",
            results=RESULTS,
            table=MEASURED,
        ),
    log:
        f"{RESULTS}/logs/measure/{{suite}}/{{revision}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure/{{suite}}/{{revision}}.tsv"
    threads: share(1)
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        folder=subpath(output[0], parent=True),
        code=code_digest("trajectory.suites.measure"),
    shell:
        "trajectory measure {wildcards.suite} {wildcards.revision} --manifest {input.manifest}"
        " --folder {input.suite} --batches {input.batches} --output {params.folder} > {log} 2>&1"


PARTS = [
    *(f"{RESULTS}/bb/{variant}/seed{seed}" for variant, seed in CONFIG.bb_trajectories()),
    *(f"{RESULTS}/measured/nano-olmo/{revision}" for revision in NANO_REVISIONS),
]


rule gather:
    input:
        expand("{part}/{table}.parquet", part=PARTS, table=MEASURED),
    output:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=MEASURED),
    log:
        f"{RESULTS}/logs/gather.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        parts="\n".join(PARTS),
        to=subpath(output[0], parent=True),
        config=RESOLVED,
        code=code_digest("trajectory.tables"),
    shell:
        "trajectory tables gather --config {params.config} --parts - --output {params.to}"
        " > {log} 2>&1 <<'PARTS'\n{params.parts}\nPARTS"
