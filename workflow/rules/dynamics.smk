"""What is found in every trajectory, and the ledger of the paper's claims.

Inputs: the run's measurement tables; for the ledger all tables. Outputs: the tables of what was
found, beside them.
"""

FOUND = (
    *("onsets", "leads", "laws", "phenomena", "seeds", "contrasts", "gates"),
    *("forecasts", "forecast_scores"),
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
        mem_mb=2000,
        runtime=60,
    params:
        results=lambda wildcards, input: Path(input[0]).parents[1],
        config=RESOLVED,
        dynamics=values(CONFIG.dynamics),
        code=code_digest("trajectory.dynamics.analyse"),
    shell:
        "trajectory dynamics --config {params.config} --results {params.results} > {log} 2>&1"


rule claims:
    input:
        rules.gather.output,
        rules.dynamics.output,
        BB_TABLES,
    output:
        f"{RESULTS}/tables/claims.parquet",
    log:
        f"{RESULTS}/logs/claims.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        results=lambda wildcards, input: Path(input[0]).parents[1],
        config=RESOLVED,
        dynamics=values(CONFIG.dynamics),
        variants=values(CONFIG.bb),
        code=code_digest("trajectory.dynamics.claims.all"),
    shell:
        "trajectory claims --config {params.config} --results {params.results} --output {output}"
        " > {log} 2>&1"
