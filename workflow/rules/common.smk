"""Validation of the config, and what all rules share."""

import re
from functools import cache, partial
from pathlib import Path

from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.listed import with_rates
from trajectory.checkpoints.pinned import is_listed, read_unpinned, unpinned_path
from trajectory.config import RESOLVED_NAME, check_files
from trajectory.config import parse as parse_config
from trajectory.costs.expected import expected_seconds
from trajectory.costs.needs import (
    forking_minutes,
    needs,
    needs_changed,
    needs_forces,
    pretraining_minutes,
    training_minutes,
)
from trajectory.errors import TrajectoryError
from trajectory.inputs import (
    check_inputs,
    claim_files,
    probe_files,
    recorded_files,
    recorded_forces,
    variant_files,
)
from trajectory.jobs.bundles import effect_tables, force_bundles, force_tables, suite_bundles
from trajectory.jobs.deciding import FORCES, INTERVENE, MEASURE, decided_digest, probe_of
from trajectory.provenance import code_digest, values_digest
from trajectory.repair import look, mend, remember
from trajectory.results import check_results, claim
from trajectory.terminal import attach
from trajectory.workflow import (
    BB_MEASUREMENTS,
    EFFECT_TABLES,
    FORCE_TABLES,
    MEASURED,
    check_scheduler,
    check_storage,
    claimed_threads,
    growing,
    last_told,
    pass_on_handlers,
    refuse,
    use_own_commands,
    values,
)

# As the catalogue deploys it, this is a module of another Snakefile, which has read config/config.yaml.
DEPLOYED = not workflow.modifier.is_main_snakefile()

try:
    config_files = workflow.config_settings.configfiles or [
        "config/config.yaml" if DEPLOYED else "config.yaml"
    ]
    config_name = ", ".join(map(str, config_files))
    check_files(map(Path, config_files))
    CONFIG = parse_config(config, config_name)
    check_storage(workflow.storage_settings and workflow.storage_settings.default_storage_provider)
    check_results(CONFIG)
    check_inputs(CONFIG, config_name)
except TrajectoryError as error:
    refuse(error)

use_own_commands()

RESULTS = str(CONFIG.results)

# The validated config, defaults filled in and command-line overrides included, as the jobs read it.
# It is no input of any rule: each rule lists the values that matter to it as parameters.
RESOLVED = f"{RESULTS}/{RESOLVED_NAME}"

# Looked for before the plan is made, removed once it is known that this is more than a trial.
UNUSABLE = look(CONFIG) if workflow.is_main_process else None


def mended(wildcards):
    """No files: what an earlier run left unusable is removed before its rules are looked at."""
    if UNUSABLE is not None:
        try:
            mend(CONFIG, UNUSABLE, trial=workflow.dryrun)
        except TrajectoryError as error:
            refuse(error)
    return []


def claim_results():
    """Write the resolved config before the first job, unless the folder is another run's."""
    try:
        check_scheduler(workflow.executor_plugin and workflow.executor_plugin.name)
        claim(CONFIG)
    except TrajectoryError as error:
        refuse(error)


TOLD_BEFORE = {rule: last_told(CONFIG.results, rule) for rule in ("complete", "report")}


def last_word(rule):
    """What this run's job of a rule printed; nothing if it had none.

    ``complete`` names the checkpoints that could not be measured, ``report`` says what was found.
    """
    now = last_told(CONFIG.results, rule)
    return now[0] if now and now != TOLD_BEFORE[rule] else ""


TERMINAL = attach(workflow, partial(expected_seconds, CONFIG))


def follow():
    """Say from now on how far the run is."""
    if TERMINAL is not None:
        TERMINAL.plan((job.rule.name, job.wildcards_dict) for job in workflow.dag.needrun_jobs())
        TERMINAL.start()


def stop_following():
    if TERMINAL is not None:
        TERMINAL.stop()


def begin():
    claim_results()
    follow()


def end_well():
    stop_following()
    remember(CONFIG)
    print(last_word("report"), end="")


def end_badly():
    stop_following()
    remember(CONFIG)
    print(f"A job failed. What it printed is above, and in {RESULTS}/logs.")
    print(last_word("complete"), end="")


def share(busy):
    """Threads to claim for a job that keeps this many CPUs busy."""

    def claimed(wildcards):
        # On a cluster --cores bounds all jobs together, not this machine.
        cores = workflow.resource_settings.cores if workflow.local_exec else None
        return claimed_threads(busy, cores)

    return claimed


wildcard_constraints:
    variant="[a-z0-9][a-z0-9._-]*",
    suite="[a-z0-9][a-z0-9._-]*",
    bundle="[^/]+",
    revision="[^/]+",
    seed="[0-9]+",
