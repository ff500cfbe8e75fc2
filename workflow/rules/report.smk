"""The browsable report.

Inputs: all tables of the run. Outputs: a folder of pages that opens from disk, and every chart as
SVG, PNG and PDF, sorted for Snakemake's own report.
"""

# All of a run that people read, beside the manifests.
READ = (
    *(rules.gather.output, rules.dynamics.output, rules.claims.output),
    *(rules.theory.output, rules.align.output),
    *(BB_TABLES, EFFECTS, FORKS, HOLDS, FORCE_OUTPUTS, REINFORCED),
    *(rules.outcomes.output, rules.costs.output),
)


rule report:
    input:
        *READ,
        manifests,
    output:
        pages=report(
            directory(f"{RESULTS}/report"),
            htmlindex="index.html",
            category="Report",
            caption="../report/pages.rst",
            labels={"what": "all pages"},
        ),
        figures=report(
            directory(f"{RESULTS}/figures"),
            patterns=["{page}/{chart}.svg"],
            category="Figures",
            subcategory="{page}",
            caption="../report/figure.rst",
            labels={"chart": "{chart}"},
        ),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        results=lambda wildcards, input: Path(input[0]).parents[1],
        config=RESOLVED,
        values=values(CONFIG, without={"fetch"}),
        code=code_digest("trajectory.report.site"),
    shell:
        "trajectory report --config {params.config} --results {params.results}"
        " --output {output.pages} --copies {output.figures} > {log} 2>&1"
