"""The theory's curves, and all trajectories on one axis.

Inputs: the run's measurement tables. Outputs: the tables of the collapse and of the theory beside
them.
"""


rule theory:
    output:
        f"{RESULTS}/tables/theory_curves.parquet",
    log:
        f"{RESULTS}/logs/theory.log",
    benchmark:
        f"{RESULTS}/benchmarks/theory.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(20),
    params:
        results=subpath(output[0], ancestor=2),
        code=code_digest("trajectory.dynamics.regimes", "trajectory.corpus.characters"),
    shell:
        "trajectory theory --results {params.results} > {log} 2>&1"


rule align:
    input:
        rules.gather.output,
    output:
        expand(
            "{results}/tables/{table}.parquet",
            results=RESULTS,
            table=["alignments", "alignment_scales", "aligned"],
        ),
    log:
        f"{RESULTS}/logs/align.log",
    benchmark:
        f"{RESULTS}/benchmarks/align.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        results=subpath(output[0], ancestor=2),
        config=RESOLVED,
        alignment=values(CONFIG.alignment),
        threshold=CONFIG.dynamics.sink_threshold,
        held=sorted(CONFIG.held()),
        code=code_digest("trajectory.dynamics.align"),
    shell:
        "trajectory align --config {params.config} --results {params.results} > {log} 2>&1"
