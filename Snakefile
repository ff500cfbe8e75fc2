# Toy-model theory and language-model pretraining on the same plots.
#
#   <results>/bb/<variant>/seed<k>/        heads, layers, checkpoints of one Bigram-Backcopy run
#   <results>/suites/<suite>/<revision>/   checkpoints of an embedded suite
#   <results>/manifests/<suite>.parquet    which checkpoints there are, pinned to their content
#   <results>/measured/<suite>/<revision>/ heads, layers, checkpoints of one checkpoint
#   <results>/selections/<suite>.tsv       which of them are measured: reviewable, editable
#   <results>/tables/                      all trajectories: measurements, onsets, laws, phenomena
#   <results>/report/index.html            the pages
#   <results>/figures/                     their charts, page by page, for snakemake --report
#   <results>/unpinned.tsv                 which suites could not be listed, and why
#   <results>/complete.txt                 that nothing is missing from the tables
#   <results>/logs/, <results>/benchmarks/ what each job printed, and what it cost
#   <results>/costs.parquet                where time, memory and bytes went
from pathlib import Path

from snakemake.utils import min_version

from trajectory.config import check_files
from trajectory.errors import TrajectoryError
from trajectory.workflow import refuse

min_version("9.19")


# A config file given on the command line replaces the default run; it is not merged into it.
if not workflow.config_settings.configfiles:
    try:  # before Snakemake reads it, which would end in a traceback, or not at all
        if workflow.modifier.is_main_snakefile():  # a module has another's config
            check_files([Path("config.yaml")])
    except TrajectoryError as error:
        refuse(error)

    configfile: "config.yaml"


# Read with --software-deployment-method apptainer only; the Dockerfile says how to make it. Without
# it, jobs run in the environment that runs Snakemake.
container: "trajectory.sif"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/selections.smk"
include: "workflow/rules/bigram_backcopy.smk"
include: "workflow/rules/checkpoints.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/interventions.smk"
include: "workflow/rules/forks.smk"
include: "workflow/rules/forces.smk"
include: "workflow/rules/holds.smk"
include: "workflow/rules/dynamics.smk"
include: "workflow/rules/reinforcement.smk"
include: "workflow/rules/theory.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/costs.smk"
include: "workflow/rules/report.smk"


onstart:
    begin()


onsuccess:
    end_well()


onerror:
    end_badly()


if DEPLOYED:
    pass_on_handlers(workflow, begin, end_well, end_badly)


rule all:
    default_target: True
    input:
        mended,
        f"{RESULTS}/report",
        # What people read, and the parts it is made of: without them here, what is deleted once
        # all is made would stay away.
        *READ,
        manifests,
        BB_TABLES_OF_RUNS,
        batched,
        bundled,
        intervened if EFFECTS else [],
        forced if FORCE_OUTPUTS else [],
        f"{RESULTS}/complete.txt",
