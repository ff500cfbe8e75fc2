"""Config files as people write them: what YAML would read otherwise is refused by key and line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import run_command

from trajectory.config import load
from trajectory.config.strict import read_yaml
from trajectory.errors import TrajectoryError

BASE = "name: a\nresults: r\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)

REFUSED = {
    "suite twice": (
        "suites:\n  olmo2-1b: {select: {every: 4}}\n  pythia-70m: {}\n  olmo2-1b: {}\n",
        r"line 6: suites.olmo2-1b: is given twice \(first in line 4\)",
    ),
    "section twice": (
        "probe: {length: 32}\nprobe: {sequences: 3}\n",
        "line 4: probe: is given twice",
    ),
    "key twice": ("probe: {length: 32, length: 64}\n", "line 3: probe.length: is given twice"),
    "in a list": ("x: [{a: 1, a: 2}]\n", "line 3: x.a: is given twice"),
    "sixty": (
        "probe: {length: 60:00}\n",
        "line 3: probe.length: '60:00' is a number to base sixty",
    ),
    "octal": ("probe:\n  length: 010\n", "line 4: probe.length: '010' is a number to base eight"),
    "date": ("name2: 2024-02-30\n", "line 3: name2: '2024-02-30' is a date in YAML"),
    "digits": (f"x: {'9' * 400}\n", "line 3: x: a number of more than 18 digits"),
    "true": (
        "bb: {variants: {x: {seeds: [true]}}}\n",
        r"bb.variants.x.seeds.0: should be a number, found true",
    ),
    "count": (
        "bb: {variants: {x: {record: {count: 3000000000}}}}\n",
        r"bb.variants.x.record.count: .*less than or equal to 100000, found 3000000000",
    ),
    "bomb": (BOMB, "more than 100,000 values, its aliases written out"),
    "loop": ("x: &x [*x]\n", "line 3: an alias that contains itself"),
    **{
        f"deep {part}": (f"x:\n  {part * 200_000}", "line 4: not YAML .it is nested too deeply")
        for part in ("[", "{a: ", "- ", "? ")
    },
    "latin": ("x: caf\udce9\n", "byte .* is no UTF-8"),
    "large": ("# " + "x" * (1 << 20), "larger than any config"),
    "tag": ("x: !!python/object/apply:os.system [id]\n", "not YAML"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_two_readers_read_differently_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes((BASE + text).encode(errors="surrogateescape"))
    started = time.monotonic()
    with pytest.raises(TrajectoryError, match=f"^{path}(, |: ).*{message}") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 10


def test_what_is_meant_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    text = (
        "x: &x {a: '010', b: 0x10, c: 0, d: 1_000, e: '60:00', f: on}\ny: {<<: *x, a: 1}\nz: *x\n"
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    found = read_yaml(path)
    assert found["x"] == {"a": "010", "b": 16, "c": 0, "d": 1000, "e": "60:00", "f": True}
    assert found["y"] == {**found["x"], "a": 1}


@given(st.text(alphabet=":-{}[],&*!|>'\"%@`#? \nab01.\t<"))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text)
    try:
        load(path)
    except TrajectoryError as error:
        assert all(line.startswith(str(path)) for line in str(error).splitlines())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("probe: {length: 32}\nprobe: {sequences: 3}\n", ", line 4: probe: is given twice"),
        ("x: &x {y: *x}\n", ", line 3: an alias that contains itself"),
        (BOMB, ": more than 100,000 values, its aliases written out"),
        ("x: 2024-02-30\n", ", line 3: x: '2024-02-30' is a date in YAML; quote it"),
        ("x: " + "[" * 5000, ", line 3: not YAML (it is nested too deeply)"),
        ("x: caf\udce9\n", ": not YAML (byte 25 is no UTF-8)"),
        (
            "__use_yte__: true\n?__import__('os').mkdir('ran'): 1\n",
            ": __use_yte__: Snakemake would",
        ),
    ],
)
def test_the_workflow_says_it_before_snakemake_reads_it(
    root: Path, tmp_path: Path, text: str, message: str
) -> None:
    for entry in ("Snakefile", "workflow", "profiles"):
        (tmp_path / entry).symlink_to(root / entry)
    (tmp_path / "config.yaml").write_bytes((BASE + text).encode(errors="surrogateescape"))
    done = run_command("snakemake", "--cores", 1, "-n", cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert f"error: config.yaml{message}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("none.yaml", "none.yaml: cannot be read (No such file or directory)"),
        ("workflow", "workflow: cannot be read (Is a directory)"),
        ("code.yaml", "code.yaml: __use_yte__: Snakemake would"),
    ],
)
def test_a_config_file_on_the_command_line_is_read_first(
    root: Path, tmp_path: Path, given: str, problem: str
) -> None:
    for entry in ("Snakefile", "workflow", "profiles"):
        (tmp_path / entry).symlink_to(root / entry)
    (tmp_path / "code.yaml").write_text("__use_yte__: true\n?__import__('os').mkdir('ran'): 1\n")
    (tmp_path / "config.yaml").write_text(BASE)
    files = ("--configfile", "config.yaml", given)
    done = run_command("snakemake", "--cores", 1, "-n", *files, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert f"error: {problem}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "ran").exists()
