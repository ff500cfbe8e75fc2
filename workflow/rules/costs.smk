"""What the run cost.

Inputs: the benchmarks of all jobs before the report, known to be there once the last of those jobs
are done: claims and outcomes come after all others. Outputs: one table, a row per job. It differs
from run to run, so it lies beside the run's tables.
"""


rule costs:
    input:
        rules.claims.output,
        rules.outcomes.output,
    output:
        f"{RESULTS}/costs.parquet",
    log:
        f"{RESULTS}/logs/costs.log",
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        results=subpath(output[0], parent=True),
        code=code_digest("trajectory.costs.benchmarks"),
    shell:
        "trajectory costs --results {params.results} --output {output} > {log} 2>&1"
