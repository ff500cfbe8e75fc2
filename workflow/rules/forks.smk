"""Forks: what trainings of the run's own answer to a hook on one of their keys.

Inputs: the forks of each training that the config asks for. Output: one table of them all.
"""

FORKED = [
    f"{RESULTS}/bb/{name}/seed{seed}"
    for name, seed in CONFIG.bb_trajectories()
    if CONFIG.variant(name).forks
]
FORKS = [f"{RESULTS}/tables/forks.parquet"] if FORKED else []


rule gather_forks:
    input:
        expand("{part}/forks.parquet", part=FORKED),
    output:
        f"{RESULTS}/tables/forks.parquet",
    log:
        f"{RESULTS}/logs/gather_forks.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather_forks.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        parts="\n".join(FORKED),
        to=subpath(output[0], parent=True),
        config=RESOLVED,
        code=code_digest("trajectory.parts", "trajectory.tables"),
    shell:
        "trajectory tables gather --config {params.config} --parts - --output {params.to}"
        " --tables forks > {log} 2>&1 <<'PARTS'\n{params.parts}\nPARTS"
