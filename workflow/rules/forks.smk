"""Forks: what trainings of the run's own answer to a hook on one of their keys.

Inputs: the forks of each training that the config asks for. Output: one table of them all.
"""

FORKED = [
    *(
        f"{RESULTS}/bb/{name}/seed{seed}"
        for name, seed in CONFIG.bb_trajectories()
        if CONFIG.variant(name).forks
    ),
    *(f"{RESULTS}/forked/{name}" for name, nano in EMBEDDED.items() if nano.forks),
]
FORKS = [f"{RESULTS}/tables/forks.parquet"] if FORKED else []


# From the states that the training kept: other forks at these steps do not train it again.
rule nano_forks:
    input:
        f"{RESULTS}/suites/{{suite}}",
    output:
        f"{RESULTS}/forked/{{suite}}/forks.parquet",
    log:
        f"{RESULTS}/logs/nano_forks/{{suite}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/nano_forks/{{suite}}.tsv"
    wildcard_constraints:
        suite=OWN,
    priority: 8
    threads: share(1)
    resources:
        mem_mb=growing(3000),
        runtime=growing(forking_minutes(CONFIG)),
    params:
        folder=subpath(output[0], parent=True),
        config=RESOLVED,
        forks=lambda wildcards: values(EMBEDDED[wildcards.suite].forks),
        code=code_digest("trajectory.nano.forks"),
    shell:
        "trajectory suites forks {wildcards.suite} --config {params.config} --folder {input}"
        " --output {params.folder} > {log} 2>&1"


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
        code=code_digest("trajectory.jobs.parts", "trajectory.tables"),
    shell:
        "trajectory tables gather --config {params.config} --parts - --output {params.to}"
        " --tables forks > {log} 2>&1 <<'PARTS'\n{params.parts}\nPARTS"
