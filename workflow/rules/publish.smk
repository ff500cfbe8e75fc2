"""Copies in a storage of its own, where the config names one.

Inputs: the run's tables and manifests. Outputs: the same files under the config's address, through
the Snakemake storage plugin that the address belongs to.
"""

PUBLISHED = (
    [
        storage(f"{CONFIG.publish}/{Path(path).relative_to(RESULTS)}")
        for path in [
            *rules.gather.output,
            *rules.dynamics.output,
            rules.costs.output[0],
            *expand(
                "{results}/manifests/{suite}.parquet", results=RESULTS, suite=CONFIG.suites.names()
            ),
        ]
    ]
    if CONFIG.publish
    else []
)

if CONFIG.publish:

    rule publish:
        input:
            f"{RESULTS}/{{file}}.parquet",
        output:
            storage(f"{CONFIG.publish}/{{file}}.parquet"),
        log:
            f"{RESULTS}/logs/publish/{{file}}.log",
        localrule: True
        shell:
            "cp {input} {output} 2> {log}"


rule published:
    input:
        PUBLISHED,
