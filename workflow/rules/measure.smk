"""Measuring checkpoints, and gathering all measurements.

Inputs: checkpoints and their manifest; all measured tables. Outputs: per bundle of checkpoints what
became of each, and beside it the three tables of every measured one; the run's tables.
"""

BUNDLES = {
    (bundle.suite, bundle.name): bundle
    for bundle in bundles("nano-olmo", [(revision, 0) for revision in NANO_REVISIONS])
}


# The tables of single checkpoints are not declared: Snakemake would delete those of a whole bundle
# when one checkpoint joins it or a job is killed. The command knows by a digest of all that decides
# its rows whether a checkpoint is measured.
rule measure:
    input:
        suite=f"{RESULTS}/suites/{{suite}}",
        manifest=f"{RESULTS}/manifests/{{suite}}.parquet",
        batches=f"{RESULTS}/batches/{{suite}}.parquet",
    output:
        f"{RESULTS}/measured/{{suite}}/.bundles/{{bundle}}.parquet",
    log:
        f"{RESULTS}/logs/measure/{{suite}}/{{bundle}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure/{{suite}}/{{bundle}}.tsv"
    threads: share(1)
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        revisions=lambda wildcards: BUNDLES[wildcards.suite, wildcards.bundle].revisions,
        folder=subpath(output[0], ancestor=2),
        code=code_digest("trajectory.suites.measure", "trajectory.suites.bundle"),
    shell:
        "trajectory measure {wildcards.suite} {params.revisions} --manifest {input.manifest}"
        " --folder {input.suite} --batches {input.batches} --output {params.folder}"
        " --bundle {output} > {log} 2>&1"


BUNDLED = [
    f"{RESULTS}/measured/{bundle.suite}/.bundles/{bundle.name}.parquet"
    for bundle in BUNDLES.values()
]
BB_PARTS = [f"{RESULTS}/bb/{variant}/seed{seed}" for variant, seed in CONFIG.bb_trajectories()]


rule gather:
    input:
        expand("{part}/{table}.parquet", part=BB_PARTS, table=MEASURED),
        BUNDLED,
    output:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=MEASURED),
    log:
        f"{RESULTS}/logs/gather.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        parts="\n".join([*BB_PARTS, *BUNDLED]),
        to=subpath(output[0], parent=True),
        config=RESOLVED,
        code=code_digest("trajectory.parts", "trajectory.tables"),
    shell:
        "trajectory tables gather --config {params.config} --parts - --output {params.to}"
        " > {log} 2>&1 <<'PARTS'\n{params.parts}\nPARTS"
