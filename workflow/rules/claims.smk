"""The ledger of the paper's claims.

Inputs: all tables of the run. Output: one verdict per claim, criterion and subject.
"""


rule claims:
    input:
        rules.gather.output,
        rules.dynamics.output,
        rules.theory.output,
        rules.align.output,
        BB_TABLES,
        EFFECTS,
        FORKS,
        HOLDS,
        FORCE_OUTPUTS,
        REINFORCED,
        claim_files(CONFIG),
    output:
        f"{RESULTS}/tables/claims.parquet",
    log:
        f"{RESULTS}/logs/claims.log",
    benchmark:
        f"{RESULTS}/benchmarks/claims.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        results=lambda wildcards, input: Path(input[0]).parents[1],
        config=RESOLVED,
        dynamics=values(CONFIG.dynamics),
        variants=values(CONFIG.bb),
        held=sorted(CONFIG.held()),
        claims=CONFIG.claims,
        code=code_digest("trajectory.dynamics.claims.all"),
    shell:
        "trajectory claims --config {params.config} --results {params.results} --output {output}"
        " > {log} 2>&1"
