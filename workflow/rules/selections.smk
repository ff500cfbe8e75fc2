"""Which checkpoints of which suites are measured: the pinned selections, cut into bundles.

No rules: what the rules about checkpoints share.
"""

PUBLIC = CONFIG.suites.public()

# Trainings of the run's own, and a pattern of their names.
EMBEDDED = CONFIG.suites.embedded()
OWN = "|".join(map(re.escape, EMBEDDED)) or "nano-olmo"


def selection_path(suite):
    return f"{RESULTS}/selections/{suite}.tsv"


def manifest_path(suite):
    return f"{RESULTS}/manifests/{suite}.parquet"


# Suites that could not be pinned, and why: this run goes on without them.
LEFT_OUT = str(unpinned_path(CONFIG))


# A pinned suite has a table that says which checkpoints are measured, and the whole plan is static.
UNPINNED = [
    name
    for name in PUBLIC
    if not is_listed(CONFIG, name)
    or (UNUSABLE is not None and Path(manifest_path(name)) in UNUSABLE.unusable)
]


# What could not be pinned is tried once by each run: a table of an earlier one is out of date.
TRIED_BEFORE = Path(LEFT_OUT).stat().st_mtime_ns if UNPINNED and Path(LEFT_OUT).is_file() else None


def pinned(suite):
    """A suite's selection; where it is not pinned yet, the plan waits for it."""
    if suite not in UNPINNED:
        return read_once(suite)
    if workflow.is_main_process:  # a job of this run was planned after the suites were tried
        checkpoints.pin.get()
    return [] if suite in read_unpinned(CONFIG) else read_once(suite)


def listed_suites():
    """The suites that are part of the run, once all are tried."""
    for suite in PUBLIC:
        pinned(suite)
    left_out = read_unpinned(CONFIG)
    return [suite for suite in CONFIG.suites.names() if suite not in left_out]


@cache
def read_once(suite):
    try:
        return checked_selection(Path(selection_path(suite)), suite, PUBLIC[suite])
    except TrajectoryError as error:
        refuse(error)


def manifests(wildcards):
    return [manifest_path(suite) for suite in listed_suites()]


def tokenizer_of(wildcards):
    suite = wildcards.suite
    return f"{RESULTS}/suites/{suite}" if suite in EMBEDDED else f"{RESULTS}/tokenizers/{suite}"


def bundles_of(suite):
    """A suite's checkpoints as bundles, by name."""
    if suite not in EMBEDDED:
        pinned(suite)
    return cut_once(suite)


@cache
def cut_once(suite):
    return {bundle.name: bundle for bundle in suite_bundles(CONFIG, suite)}


def needs_of(wildcards):
    """What a bundle's job needs, from the sizes of its suite."""
    return needs(CONFIG, bundles_of(wildcards.suite)[wildcards.bundle])


def bundled(wildcards):
    return [
        f"{RESULTS}/measured/{suite}/.bundles/{bundle}.parquet"
        for suite in CONFIG.suites.names()
        for bundle in bundles_of(suite)
    ]


def batched(wildcards):
    return [
        f"{RESULTS}/batches/{suite}.parquet" for suite in CONFIG.suites.names() if bundles_of(suite)
    ]


def connections(wildcards):
    """Connections to the hub of a job on a suite: one that lies in a folder needs none."""
    return int(wildcards.suite in PUBLIC and PUBLIC[wildcards.suite].folder is None)


def embedded(wildcards):
    """What the embedded suite's checkpoints are measured from; those of others are fetched."""
    if wildcards.suite not in EMBEDDED:
        return {}
    return {
        "folder": f"{RESULTS}/suites/{wildcards.suite}",
        "listed": manifest_path(wildcards.suite),
    }


def where_from(wildcards):
    if wildcards.suite in EMBEDDED:
        folder = f"{RESULTS}/suites/{wildcards.suite}"
        return f"--listed {manifest_path(wildcards.suite)} --folder {folder}"
    return f"--listed {selection_path(wildcards.suite)}"


def decided(kind, suite, revisions):
    """A digest of all that decides the rows of a suite's checkpoints, but for its token batches."""
    if suite in EMBEDDED:  # listed in a manifest, which is an input
        return decided_digest(kind, CONFIG, suite)
    pinned(suite)
    return [decided_digest(kind, CONFIG, suite, rows_once(suite)[name]) for name in revisions]


@cache
def rows_once(suite):
    return {row["revision"]: with_rates(row, PUBLIC[suite]) for row in pinned(suite)}


CHANGED = CONFIG.probe.interventions
EFFECTS = (
    expand("{results}/tables/{table}.parquet", results=RESULTS, table=EFFECT_TABLES)
    if CHANGED and CONFIG.suites.names()
    else []
)


def needs_of_changed(wildcards):
    """What the job on a checkpoint with parts taken away needs, from the sizes of its suite."""
    suite, revision = wildcards.suite, wildcards.revision
    size = None if suite in EMBEDDED else rows_once(suite)[revision]["bytes"]
    return needs_changed(CONFIG, suite, size)


def intervened(wildcards):
    listed_suites()
    return intervened_once()


@cache
def intervened_once():
    try:
        found = [str(path) for path in effect_tables(CONFIG)]
    except TrajectoryError as error:
        refuse(error)
    if not found:
        refuse(TrajectoryError("probe.interventions.checkpoints: no suite measures these steps"))
    return found


FORCED_TOYS = [
    f"{RESULTS}/bb/{name}/seed{seed}"
    for name, seed in CONFIG.bb_trajectories()
    if CONFIG.variant(name).forces
]
FORCED_PARTS = [*FORCED_TOYS, *recorded_forces(CONFIG)]
FORCE_OUTPUTS = (
    expand("{results}/tables/{table}.parquet", results=RESULTS, table=FORCE_TABLES)
    if FORCED_PARTS or (CONFIG.probe.forces and CONFIG.suites.names())
    else []
)


def forced(wildcards):
    listed_suites()
    return [str(path) for path in force_tables(CONFIG)]


def forced_bundle(wildcards):
    found = force_bundles(CONFIG, wildcards.suite)
    return next(bundle for bundle in found if bundle.name == wildcards.bundle)


def needs_of_forces(wildcards):
    """What a job on forces needs: that of a job which measures, with the way back."""
    return needs_forces(CONFIG, forced_bundle(wildcards))
