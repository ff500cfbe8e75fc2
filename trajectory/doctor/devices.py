"""CUDA or MPS against the CPU: the same numbers, and how long each takes."""

from __future__ import annotations

import shutil
import time
from typing import Any

import torch

from trajectory.api import Measured, measure
from trajectory.doctor.compare import Difference, greatest
from trajectory.doctor.contact import LENGTH, Contact, Subject, texts
from trajectory.doctor.steps import Differs, Skip, Step

COLUMNS = ("sink_weight", "sink_excess", "value_ratio", "residual_ratio")
"""What is compared: kernels round in another order, and a difference of two great numbers shows
it."""

ROUNDING = 1e-3
"""Relative difference that float32 on two devices may have."""


def accelerators() -> list[str]:
    """Names of the devices beside the CPU that torch finds."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [name for name, found in there.items() if found]


def described(device: str) -> str:
    """The device with its maker's name where torch knows it."""
    return f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device


def compare_devices(step: Step, contact: Contact) -> None:
    """Measure what is at hand on every device and on the CPU, and compare."""
    devices = accelerators()
    if not devices:
        unused = shutil.which("nvidia-smi") and torch.version.cuda is None
        why = ": this torch has no CUDA, though nvidia-smi is here" if unused else ""
        raise Skip(f"torch finds neither CUDA nor MPS{why}")
    subjects = contact.subjects()
    for device in devices:
        worst, seconds = Difference(0.0, ""), {"cpu": 0.0, device: 0.0}
        before = len(step.failures)
        for n, (name, subject) in enumerate(subjects.items()):
            with step.part():
                if n == 0:
                    _timed(subject, device)  # sets the device up
                expected, took = _timed(subject, "cpu")
                seconds["cpu"] += took
                found, took = _timed(subject, device)
                seconds[device] += took
                one = greatest(found, expected, COLUMNS)
                if not one.size <= ROUNDING:
                    raise Differs(f"{name}: {device} differs from the CPU by {one}")
                worst = max(worst, one, key=lambda difference: difference.size)
        if len(step.failures) == before:
            step.found.append(
                f"{described(device)}: at most {worst.size:.0e} from the CPU; "
                f"{seconds[device]:.1f} s, the CPU {seconds['cpu']:.1f} s"
            )


def _timed(subject: Subject, device: str) -> tuple[Measured, float]:
    begun = time.monotonic()
    given: Any = {"tokenizer": subject.tokenizer, "device": device}
    found = measure(subject.folder, texts(), length=LENGTH, **given)
    return found, time.monotonic() - begun
