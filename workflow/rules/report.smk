"""The browsable report.

Inputs: all tables of the run. Outputs: a folder of pages that opens from disk.
"""


rule report:
    input:
        rules.gather.output,
        rules.dynamics.output,
        rules.costs.output,
        expand("{results}/manifests/{suite}.parquet", results=RESULTS, suite=CONFIG.suites.names()),
    output:
        report(
            directory(f"{RESULTS}/report"),
            htmlindex="index.html",
            category="Report",
        ),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        results=lambda wildcards, input: Path(input[0]).parents[1],
        config=RESOLVED,
        values=values(CONFIG),
        code=code_digest("trajectory.report.site"),
    shell:
        "trajectory report --config {params.config} --results {params.results}"
        " --output {output} > {log} 2>&1"
