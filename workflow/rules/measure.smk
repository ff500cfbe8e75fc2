"""Measuring checkpoints, and gathering all measurements.

Inputs: checkpoints and their manifest; all measured tables. Outputs: per bundle of checkpoints what
became of each, and beside it the three tables of every measured one; the run's tables.
"""


# The tables of single checkpoints are not declared: Snakemake would delete those of a whole bundle
# when one checkpoint joins it or a job is killed. The command knows by a digest of all that decides
# its rows whether a checkpoint is measured.
rule measure:
    input:
        unpack(embedded),
        batches=f"{RESULTS}/batches/{{suite}}.parquet",
    output:
        f"{RESULTS}/measured/{{suite}}/.bundles/{{bundle}}.parquet",
    log:
        f"{RESULTS}/logs/measure/{{suite}}/{{bundle}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure/{{suite}}/{{bundle}}.tsv"
    priority: 8
    threads: share(CONFIG.probe.threads)
    resources:
        mem_mb=lambda wildcards, attempt: needs_of(wildcards).memory_mb * 2 ** (attempt - 1),
        runtime=lambda wildcards, attempt: needs_of(wildcards).minutes * attempt,
        disk_mb=lambda wildcards: needs_of(wildcards).disk_mb,
        hub_connections=connections,
    params:
        revisions=lambda wildcards: bundles_of(wildcards.suite)[wildcards.bundle].revisions,
        where_from=where_from,
        decided=lambda wildcards: decided(
            MEASURE, wildcards.suite, bundles_of(wildcards.suite)[wildcards.bundle].revisions
        ),
        config=RESOLVED,
        folder=subpath(output[0], ancestor=2),
        code=code_digest("trajectory.jobs.bundle"),
    shell:
        "trajectory measure {wildcards.suite} {params.revisions} --config {params.config}"
        " {params.where_from} --batches {input.batches} --output {params.folder}"
        " --bundle {output} > {log} 2>&1"


BB_PARTS = [f"{RESULTS}/bb/{variant}/seed{seed}" for variant, seed in CONFIG.bb_trajectories()]


rule gather:
    input:
        expand("{part}/{table}.parquet", part=BB_PARTS, table=MEASURED),
        recorded_files(CONFIG),
        bundled=bundled,
    output:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=MEASURED),
    log:
        f"{RESULTS}/logs/gather.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        to=subpath(output[0], parent=True),
        config=RESOLVED,
        code=code_digest("trajectory.jobs.parts", "trajectory.tables"),
    shell:
        "trajectory tables gather --config {params.config} --output {params.to} > {log} 2>&1"


rule outcomes:
    input:
        manifests=manifests,
        bundled=bundled,
    output:
        f"{RESULTS}/tables/outcomes.parquet",
    log:
        f"{RESULTS}/logs/outcomes.log",
    benchmark:
        f"{RESULTS}/benchmarks/outcomes.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        config=RESOLVED,
        left_out=lambda wildcards: sorted(read_unpinned(CONFIG)),
        code=code_digest("trajectory.jobs.outcomes"),
    shell:
        "trajectory suites outcomes --config {params.config} --output {output} > {log} 2>&1"


# Fails if a checkpoint or its interventions are missing, and says which and why. Its deletion of a
# bundle's table, once that is gathered, is what makes the next run try again.
rule complete:
    input:
        # not rules.gather.output: a flag put on it would hold wherever that is an input
        ancient(expand("{results}/tables/{table}.parquet", results=RESULTS, table=MEASURED)),
        ancient([str(path) for path in EFFECTS]),
        bundled=bundled,
        changed=intervened if EFFECTS else [],
        forced=forced if CONFIG.probe.forces else [],
        outcomes=rules.outcomes.output,
    output:
        f"{RESULTS}/complete.txt",
    log:
        f"{RESULTS}/logs/complete.log",
    localrule: True
    params:
        config=RESOLVED,
    shell:
        "trajectory suites complete --config {params.config} --outcomes {input.outcomes} 2>&1"
        " | tee {log} {output}"
