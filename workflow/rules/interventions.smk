"""Interventions on language models: what happens to losses, sinks and residual peaks without a part.

Inputs: checkpoints, as for measuring. Outputs: per checkpoint what became of it, and beside it three
tables of effects; the run's tables of effects.
"""

EFFECT_TABLES = ["interventions", "intervention_layers", "head_effects"]
CHANGED = CONFIG.probe.interventions
EFFECT_PARTS = (
    [
        f"{RESULTS}/intervened/nano-olmo/.bundles/{revision_name(step)}.parquet"
        for step in CHANGED.choose(NANO_STEPS)
    ]
    if CHANGED and NANO_STEPS
    else []
)
EFFECTS = (
    expand("{results}/tables/{table}.parquet", results=RESULTS, table=EFFECT_TABLES)
    if EFFECT_PARTS
    else []
)


# As with measuring, the tables of a checkpoint are known by a digest and not declared.
rule intervene:
    input:
        suite=f"{RESULTS}/suites/{{suite}}",
        manifest=f"{RESULTS}/manifests/{{suite}}.parquet",
        batches=f"{RESULTS}/batches/{{suite}}.parquet",
    output:
        f"{RESULTS}/intervened/{{suite}}/.bundles/{{revision}}.parquet",
    log:
        f"{RESULTS}/logs/intervene/{{suite}}/{{revision}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/intervene/{{suite}}/{{revision}}.tsv"
    threads: share(1)
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        config=RESOLVED,
        interventions=values_digest(CHANGED.model_dump(mode="json") if CHANGED else None),
        folder=subpath(output[0], ancestor=2),
        code=code_digest("trajectory.suites.intervene", "trajectory.suites.bundle"),
    shell:
        "trajectory intervene {wildcards.suite} {wildcards.revision} --config {params.config}"
        " --manifest {input.manifest} --folder {input.suite} --batches {input.batches}"
        " --output {params.folder} --bundle {output} > {log} 2>&1"


rule gather_effects:
    input:
        EFFECT_PARTS,
    output:
        expand("{results}/tables/{table}.parquet", results=RESULTS, table=EFFECT_TABLES),
    log:
        f"{RESULTS}/logs/gather_effects.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather_effects.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        parts="\n".join(EFFECT_PARTS),
        tables=",".join(EFFECT_TABLES),
        to=subpath(output[0], parent=True),
        config=RESOLVED,
        code=code_digest("trajectory.parts", "trajectory.tables"),
    shell:
        "trajectory tables gather --config {params.config} --parts - --output {params.to}"
        " --tables {params.tables} > {log} 2>&1 <<'PARTS'\n{params.parts}\nPARTS"
