"""Bigram-Backcopy runs.

Inputs: the config's variants. Outputs: the tables of each variant and seed, and what follows from
all of them together.
"""

BB_SUMMARIES = ("bb_scalars", "bb_milestones", "bb_comparisons")

BB_RUNS = [f"{RESULTS}/bb/{name}/seed{seed}" for name, seed in CONFIG.bb_trajectories()]


OF_EACH_RUN = [*MEASURED, *BB_MEASUREMENTS, "forks", *FORCE_TABLES]


rule bb_train:
    input:
        lambda wildcards: variant_files(CONFIG.variant(wildcards.variant)),
    output:
        expand(
            "{results}/bb/{{variant}}/seed{{seed}}/{table}.parquet",
            results=RESULTS,
            table=OF_EACH_RUN,
        ),
    log:
        f"{RESULTS}/logs/bb_train/{{variant}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/bb_train/{{variant}}/seed{{seed}}.tsv"
    priority: 5
    threads: share(1)
    resources:
        mem_mb=growing(2000),
        runtime=lambda wildcards, attempt: training_minutes(CONFIG, wildcards.variant) * attempt,
    params:
        folder=subpath(output[0], parent=True),
        # Not an output: Snakemake removes those of a killed job, and this is what it goes on from.
        state=f"{RESULTS}/bb/states/{{variant}}-seed{{seed}}.pt",
        config=RESOLVED,
        variant=lambda wildcards: values_digest(CONFIG.variant(wildcards.variant).training()),
        device=CONFIG.bb.device,
        code=code_digest("trajectory.bb.train"),
    shell:
        "trajectory bb train --config {params.config} --variant {wildcards.variant}"
        " --seed {wildcards.seed} --output {params.folder} --state {params.state} 2>&1"
        # What ended it is also told here: the log may lie on a disk that is full.
        " | tee {log} | (grep '^error: ' || true)"


rule bb_gather:
    input:
        expand("{run}/{table}.parquet", run=BB_RUNS, table=BB_MEASUREMENTS),
    output:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=BB_MEASUREMENTS),
    log:
        f"{RESULTS}/logs/bb_gather.log",
    benchmark:
        f"{RESULTS}/benchmarks/bb_gather.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        parts="\n".join(BB_RUNS),
        to=subpath(output[0], parent=True),
        tables=",".join(BB_MEASUREMENTS),
        config=RESOLVED,
        code=code_digest("trajectory.tables"),
    shell:
        "trajectory tables gather --config {params.config} --parts - --output {params.to}"
        " --tables {params.tables} > {log} 2>&1 <<'PARTS'\n{params.parts}\nPARTS"


rule bb_summary:
    input:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=MEASURED),
        rules.bb_gather.output,
    output:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=BB_SUMMARIES),
    log:
        f"{RESULTS}/logs/bb_summary.log",
    benchmark:
        f"{RESULTS}/benchmarks/bb_summary.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        results=lambda wildcards, input: Path(input[0]).parents[1],
        variants=values(CONFIG.bb),
        config=RESOLVED,
        code=code_digest("trajectory.dynamics.bb_summary"),
    shell:
        "trajectory bb summary --config {params.config} --results {params.results} > {log} 2>&1"


BB_TABLES_OF_RUNS = expand("{run}/{table}.parquet", run=BB_RUNS, table=OF_EACH_RUN)

# What the report reads of the laboratory; nothing where a run has no such experiments.
BB_TABLES = (
    expand(
        "{results}/tables/{table}.parquet",
        results=RESULTS,
        table=[*BB_MEASUREMENTS, *BB_SUMMARIES],
    )
    if BB_RUNS
    else []
)
