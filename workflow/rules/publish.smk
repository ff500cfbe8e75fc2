"""Copies in a storage of its own, where the config names one.

Inputs: all tables that the report reads, the manifests and selections, and the report itself. Outputs:
the same files under the config's address, the report as one archive, through the Snakemake storage
plugin that the address belongs to.
"""

PACKED = f"{RESULTS}/report.zip"


# One file, whatever the storage makes of folders. It opens from disk, like the report.
rule pack:
    input:
        rules.report.output.pages,
    output:
        PACKED,
    log:
        f"{RESULTS}/logs/pack.log",
    localrule: True
    shell:
        "python -m zipfile --create {output} {input} > {log} 2>&1"


if CONFIG.publish:

    rule publish:
        input:
            f"{RESULTS}/{{file}}",
        output:
            stored(f"{RESULTS}/{{file}}"),
        log:
            f"{RESULTS}/logs/publish/{{file}}.log",
        localrule: True
        shell:
            # Storages tell times in whole seconds: a copy made at once would look older than its file.
            "cp {input} {output} 2> {log} && python -c 'import os, sys, time;"
            " time.sleep(max(0, os.stat(sys.argv[1]).st_mtime + 1 - time.time()))' {input}"


rule published:
    input:
        published,
