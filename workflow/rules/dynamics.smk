"""What is found in every trajectory: onsets, leads, laws, phenomena, gates, careers.

Inputs: the run's measurement tables. Outputs: the tables of what was found, beside them.
"""

FOUND = (
    *("onsets", "leads", "laws", "phenomena", "seeds", "contrasts", "gates"),
    *("careers", "role_changes", "role_order"),
)


rule dynamics:
    input:
        rules.gather.output,
    output:
        expand(
            "{results}/tables/{table}.parquet",
            results=RESULTS,
            table=FOUND,
        ),
    log:
        f"{RESULTS}/logs/dynamics.log",
    benchmark:
        f"{RESULTS}/benchmarks/dynamics.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        results=lambda wildcards, input: Path(input[0]).parents[1],
        config=RESOLVED,
        dynamics=values(CONFIG.dynamics),
        code=code_digest("trajectory.dynamics.analyse"),
    shell:
        "trajectory dynamics --config {params.config} --results {params.results} > {log} 2>&1"
