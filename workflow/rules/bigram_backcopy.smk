"""Bigram-Backcopy runs.

Inputs: the config's variants. Outputs: the three tables of each variant and seed.
"""


rule bb_train:
    output:
        expand(
            "{results}/bb/{{variant}}/seed{{seed}}/{table}.parquet",
            results=RESULTS,
            table=MEASURED,
        ),
    log:
        f"{RESULTS}/logs/bb_train/{{variant}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/bb_train/{{variant}}/seed{{seed}}.tsv"
    priority: 5
    threads: share(1)
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        folder=subpath(output[0], parent=True),
        config=RESOLVED,
        variant=lambda wildcards: values(CONFIG.variant(wildcards.variant)),
        code=code_digest("trajectory.bb.train"),
    shell:
        "trajectory bb train --config {params.config} --variant {wildcards.variant}"
        " --seed {wildcards.seed} --output {params.folder} 2>&1 | tee {log}"
