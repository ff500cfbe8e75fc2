"""The files of the user's own that a run reads: a change of one reruns what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from glob import glob
from pathlib import Path

from trajectory.config import Config, Variant
from trajectory.config.claims import claims_path, load_claims
from trajectory.config.run import RECORDING, is_recording
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.outside import CONFIG, json_file, stated_context
from trajectory.workflow import MEASURED


def variant_files(variant: Variant) -> list[str]:
    """What a Bigram-Backcopy experiment reads besides its config."""
    return [] if variant.task.text is None else [str(variant.task.text)]


def probe_files(config: Config) -> list[str]:
    """What the token batches of a run are made of, apart from what is fetched."""
    return [path for found in _probe_files(config).values() for path in found]


def check_inputs(config: Config, source: str = "config") -> None:
    """Raise TrajectoryError, a line for each, if files or recordings that a run would read are not
    there, or its sequences are longer than the context of a suite's model, as far as that is known;
    or if the run is a recorded training itself."""
    if is_recording(config):
        raise TrajectoryError(
            f"{source}: the folder of the recorded training '{config.name}', in which there is "
            "nothing to run; analyse it by hand (trajectory dynamics --results "
            f"{config.results}), or name it under `recorded` in a config with a results folder of "
            "its own"
        )
    named = {
        f"bb.variants.{name}.task.text": variant_files(variant)
        for name, variant in config.bb.variants.items()
    }
    if config.suites.names():
        named |= _probe_files(config)
    absent = [
        f"{source}: {key}: {path}: no such file"
        for key, found in named.items()
        for path in found
        if not Path(path).exists()
    ]
    unreadable = [f"{source}: {line}" for line in _unclaimed(config)]
    unrecorded = _unrecorded(config, source)
    if wrong := [*absent, *unreadable, *unrecorded, *_too_long(config, source)]:
        raise TrajectoryError(*wrong)


def claim_files(config: Config) -> list[str]:
    """Files of claims, the user's own and the shipped ones."""
    return [str(claims_path(given)) for given in config.claims]


def _unclaimed(config: Config) -> Iterator[str]:
    """What is wrong with files of claims: said before hours of work, not after."""
    for given in config.claims:
        try:
            load_claims(given)
        except TrajectoryError as error:
            yield from str(error).splitlines()


def recorded_files(config: Config) -> list[str]:
    """Tables of the trainings that Recorders recorded, which join those of the run."""
    return [
        str(folder / "tables" / f"{table}.parquet")
        for folder in config.recorded.values()
        for table in MEASURED
    ]


def recorded_forces(config: Config) -> list[str]:
    """Folders of tables of the trainings whose Recorders measured forces as well."""
    folders = [folder / "tables" for folder in config.recorded.values()]
    return [str(folder) for folder in folders if (folder / "forces.parquet").is_file()]


def _unrecorded(config: Config, source: str) -> Iterator[str]:
    """What is wrong with the folders of recorded trainings, a line for each."""
    for name, folder in config.recorded.items():
        key, path = f"{source}: recorded.{name}", folder / RECORDING
        try:
            found = json_file(path)["name"]
        except FileNotFoundError:
            yield f"{key}: {folder}: no Recorder's folder (it has no {RECORDING})"
        except (OSError, ValueError, KeyError):
            yield f"{key}: {path}: damaged"
        else:
            if found != name:
                yield f"{key}: {folder} holds the training {found!r}; call it that"
            elif not (folder / "tables" / "checkpoints.parquet").is_file():
                yield f"{key}: {folder}: nothing is recorded there yet"


def _too_long(config: Config, source: str) -> Iterator[str]:
    """What is wrong with the probe's length, a line for each suite."""
    probe = config.probe
    if not (probe.domains or probe.texts or probe.parquet):
        return  # prompts are as long as they are
    contexts: dict[str, int | None]
    contexts = {name: nano.context for name, nano in config.suites.embedded().items()}
    contexts |= {name: _context(suite) for name, suite in config.suites.public().items()}
    for name, context in contexts.items():
        if context is not None and probe.length > context:
            known = (
                ""
                if name in config.suites.embedded()
                else (f", or state the context under suites.{name}.architecture")
            )
            yield (
                f"{source}: probe.length: {probe.length:,} tokens, but the context of suite "
                f"'{name}' is {context:,}; set it to that or less{known}"
            )


def _context(suite: Suite) -> int | None:
    """Tokens that a suite's model takes: as its folder's config.json says, else as the config or
    the registry does of the first stage; None where nobody does."""
    if suite.folder is not None:
        configs = sorted([*suite.folder.glob(CONFIG), *suite.folder.glob(f"*/{CONFIG}")])
        return stated_context(configs[0]) if configs else None
    if suite.stages != [1] or suite.architecture is None:
        return None
    return suite.architecture.context


def _probe_files(config: Config) -> dict[str, list[str]]:
    """Files by the key that names them; a pattern that no file fits stands for itself."""
    named = {f"probe.texts.{name}": [str(path)] for name, path in config.probe.texts.items()}
    for name, given in config.probe.parquet.items():
        if "://" not in given.source:
            # Path.glob takes no absolute pattern.
            found = sorted(glob(given.source, recursive=True)) or [given.source]  # noqa: PTH207
            named[f"probe.parquet.{name}.source"] = [str(Path(path)) for path in found]
    return named
