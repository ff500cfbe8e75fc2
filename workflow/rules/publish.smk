"""Copies in a storage of its own, where the config names one.

Inputs: the run's tables and manifests. Outputs: the same files under the config's address, through
the Snakemake storage plugin that the address belongs to.
"""

PUBLISHED = (
    stored(
        *rules.gather.output,
        *rules.dynamics.output,
        *rules.claims.output,
        *rules.costs.output,
        *expand(
            "{results}/manifests/{suite}.parquet", results=RESULTS, suite=CONFIG.suites.names()
        ),
    )
    if CONFIG.publish
    else []
)

if CONFIG.publish:

    rule publish:
        input:
            f"{RESULTS}/{{file}}.parquet",
        output:
            stored(f"{RESULTS}/{{file}}.parquet"),
        log:
            f"{RESULTS}/logs/publish/{{file}}.log",
        localrule: True
        shell:
            "cp {input} {output} 2> {log}"


rule published:
    input:
        PUBLISHED,
