"""What is found in every trajectory: onsets, leads, laws, phenomena, gates, careers; and what
tells them apart.

Inputs: the run's measurement tables. Outputs: the tables of what was found, beside them.
"""

FOUND = (
    *("onsets", "leads", "laws", "phenomena", "seeds", "contrasts", "gates"),
    *("careers", "role_changes", "role_order"),
    *("trajectories", "onset_sizes"),
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
        facets=values_digest(
            [
                (name, suite.parameters, suite.facets and suite.facets.model_dump())
                for name, suite in CONFIG.suites.public().items()
            ]
        ),
        code=code_digest("trajectory.dynamics.analyse", "trajectory.dynamics.families"),
    shell:
        "trajectory dynamics --config {params.config} --results {params.results} > {log} 2>&1"
