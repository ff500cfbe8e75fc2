"""Forces over seeds and against motion, where the config asks for forces.

Inputs: the run's tables of forces, its measurements and its onsets. Outputs: three tables beside
them.
"""

REINFORCEMENT = ("reinforcement", "motions", "motion_tests")
REINFORCED = (
    expand("{results}/tables/{table}.parquet", results=RESULTS, table=REINFORCEMENT)
    if FORCE_OUTPUTS
    else []
)


rule reinforcement:
    input:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=FORCE_TABLES),
        rules.gather.output,
        rules.dynamics.output,
    output:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=REINFORCEMENT),
    log:
        f"{RESULTS}/logs/reinforcement.log",
    benchmark:
        f"{RESULTS}/benchmarks/reinforcement.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        results=subpath(output[0], ancestor=2),
        config=RESOLVED,
        seed=CONFIG.dynamics.seed,
        code=code_digest("trajectory.dynamics.reinforcement", "trajectory.dynamics.motions"),
    shell:
        "trajectory reinforcement --config {params.config} --results {params.results}"
        " > {log} 2>&1"
