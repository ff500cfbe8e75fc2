"""Onsets, laws, phenomena and domain contrasts of every trajectory.

Inputs: the run's measurement tables. Outputs: four more tables beside them.
"""


rule dynamics:
    input:
        rules.gather.output,
    output:
        expand(
            "{results}/tables/{table}.parquet",
            results=RESULTS,
            table=["onsets", "laws", "phenomena", "contrasts"],
        ),
    log:
        f"{RESULTS}/logs/dynamics.log",
    benchmark:
        f"{RESULTS}/benchmarks/dynamics.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        results=lambda wildcards, input: Path(input[0]).parents[1],
        config=RESOLVED,
        dynamics=values(CONFIG.dynamics),
        code=code_digest("trajectory.dynamics.analyse", "trajectory.dynamics.contrast"),
    shell:
        "trajectory dynamics --config {params.config} --results {params.results} > {log} 2>&1"
