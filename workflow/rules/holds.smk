"""Trainings with a value held or a sink forced, against what the loss's curvature predicts.

Inputs: the run's measurements and forces. Output: one row per experiment, layer and domain.
"""

HELD = [v for v in CONFIG.bb.variants.values() if v.during and v.control] or (
    CONFIG.suites.nano_olmo and CONFIG.suites.nano_olmo.experiments
)
HOLDS = [f"{RESULTS}/tables/holds.parquet"] if HELD else []


rule holds:
    input:
        rules.gather.output,
        FORCE_OUTPUTS,
    output:
        f"{RESULTS}/tables/holds.parquet",
    log:
        f"{RESULTS}/logs/holds.log",
    benchmark:
        f"{RESULTS}/benchmarks/holds.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        results=lambda wildcards, input: Path(input[0]).parents[1],
        config=RESOLVED,
        variants=values(CONFIG.bb),
        suite=CONFIG.suites.nano_olmo and values(CONFIG.suites.nano_olmo),
        code=code_digest("trajectory.dynamics.holds"),
    shell:
        "trajectory holds --config {params.config} --results {params.results} > {log} 2>&1"
