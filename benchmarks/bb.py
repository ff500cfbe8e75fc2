"""The Bigram-Backcopy laboratory against the plain way of doing it.

    python benchmarks/bb.py sampler            # tokens per second, and the law over ≥ 10⁷ tokens
    python benchmarks/bb.py step               # one training step, sampling included
    python benchmarks/bb.py step --size small  # width 64, batch 64; short: T = 64 as well
    python benchmarks/bb.py precision          # does bfloat16 change the outcome?

The plain way: every token drawn by its own ``rng.choice(p=…)``, attention weights materialised,
float32, the whole batch at once. Both ways run in one process, alternating, and the medians over
repetitions are compared. With one thread the times are CPU seconds, which other people's jobs
disturb least; with more they are seconds on the clock. Trust the ratios more than the times.

The floor of a step: its matrix products outside attention, which every way of training has to do,
at the speed of the fastest of them on this processor, with everything else for nothing; once for
each precision, whose speeds differ by a factor of 0.5 to 4 from one processor to another.
"""

from __future__ import annotations

import argparse
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from trajectory.bb.task import BigramTask, load_task
from trajectory.bb.train import Machine, Training, train
from trajectory.config import Task, Variant

SIZES = {
    "paper": {"width": 256, "batch": 512, "task": {"length": 256}},
    "small": {"width": 64, "batch": 64, "task": {"length": 256}},
    "short": {"width": 64, "batch": 64, "task": {"length": 64}},
}


def sample_plainly(
    task: BigramTask, law: np.ndarray, sequences: int, length: int, rng: np.random.Generator
) -> np.ndarray:
    """The same law with one ``rng.choice`` per token, as the reference code draws it."""
    triggers = set(task.triggers.tolist())
    out = np.empty((sequences, length), dtype=np.int64)
    for s in range(sequences):
        out[s, 0] = last = task.start
        for i in range(1, length):
            if last in triggers:
                out[s, i] = out[s, i - 2]
            else:
                out[s, i] = rng.choice(task.vocabulary, p=law[last])
            last = int(out[s, i])
    return out


class PlainAttention(nn.Module):
    """Causal attention that forms its weights."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(-1, -2) / x.shape[-1] ** 0.5 + self.mask
        return self.o(scores.softmax(-1) @ self.v(x))


class PlainBlock(nn.Module):
    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = PlainAttention(width, length)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.n1(x))
        return x + self.down(functional.relu(self.up(self.n2(x))))


class PlainModel(nn.Module):
    def __init__(self, vocabulary: int, width: int, length: int, layers: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(PlainBlock(width, length) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def plain_step(variant: Variant) -> Callable[[int], None]:
    """One step of the plain loop, sampling included."""
    task, length = load_task(variant.task), variant.task.length
    law, rng = task.transition.numpy(), np.random.default_rng(0)
    model = PlainModel(task.vocabulary, variant.width, length, variant.layers)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.99), weight_decay=1e-4)

    def step(_: int) -> None:
        drawn = torch.from_numpy(sample_plainly(task, law, variant.batch, length + 1, rng))
        logits = model(drawn[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), drawn[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def our_step(variant: Variant, machine: Machine) -> Callable[[int], None]:
    """One step of the laboratory; the sampler's block of batches is charged to its own steps."""
    training = Training("benchmark", variant, 0, machine)
    return training.update


def clock() -> float:
    """CPU seconds of this process with one thread, seconds on the clock with more."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds(step: Callable[[int], None], first: int, count: int) -> float:
    started = clock()
    for i in range(first, first + count):
        step(i)
    return (clock() - started) / count


def sampler(repeat: int) -> None:
    """Speed, and χ² of transitions and positions over ≥ 10⁷ tokens."""
    task = load_task(Task(length=256))
    law, length, drawn = task.transition.numpy(), 257, 16384
    plain, ours = [], []
    for i in range(repeat):
        started = clock()
        sample_plainly(task, law, 32, length, np.random.default_rng(i))
        plain.append(32 * length / (clock() - started))
        generator = torch.Generator().manual_seed(i)
        started = clock()
        task.sample(drawn, length, generator)
        ours.append(drawn * length / (clock() - started))
    print(f"one rng.choice per token: {median(plain):12,.0f} tokens/s")
    print(f"this sampler:             {median(ours):12,.0f} tokens/s")
    print(f"ratio:                    {median(ours) / median(plain):12.0f}")
    tokens = torch.cat(
        [task.sample(drawn, length, torch.Generator().manual_seed(s)) for s in (7, 8, 9)]
    )
    print(f"χ² over {tokens.numel():.2e} tokens:")
    free = ~task.is_trigger(tokens)[:, :-1]
    pairs = tokens[:, :-1][free] * task.vocabulary + tokens[:, 1:][free]
    counts = torch.bincount(pairs, minlength=task.vocabulary**2).view(task.vocabulary, -1).numpy()
    report("transitions from non-triggers, by row", [
        chi_square(counts[row], law[row]) for row in range(len(law)) if counts[row].sum() > 2000
    ])  # fmt: skip
    occupancy = exact_occupancy(task, length)
    report("tokens at every position", [
        chi_square(torch.bincount(tokens[:, i], minlength=task.vocabulary).numpy(), occupancy[i])
        for i in range(1, length)
    ])  # fmt: skip


def chi_square(counts: np.ndarray, law: np.ndarray) -> float | None:
    """p value; cells expected below 5 are pooled; None for a deterministic law."""
    expected = law * counts.sum()
    if counts[law == 0].sum():
        return 0.0
    common = expected >= 5
    wanted = np.append(expected[common], expected[~common].sum())
    found = np.append(counts[common], counts[~common].sum())
    keep = wanted > 0
    if keep.sum() < 2:
        return None
    return float(stats.chisquare(found[keep], wanted[keep] * found.sum() / wanted.sum()).pvalue)


def report(what: str, values: list[float | None]) -> None:
    known = [p for p in values if p is not None]
    uniform = stats.kstest(known, "uniform").pvalue
    print(
        f"  {what}: {len(known)} tests, smallest p × tests {min(known) * len(known):.2g}, "
        f"p values against uniform: p = {uniform:.2g}"
    )


def exact_occupancy(task: BigramTask, length: int) -> np.ndarray:
    """P(x_i = v) by propagating the law of (x_{i−1}, x_i)."""
    law, trigger = task.transition.numpy(), task.trigger_rows[0].numpy()
    occupancy = np.zeros((length, task.vocabulary))
    pair = np.zeros_like(law)
    pair[task.start] = law[task.start]
    for i in range(1, length):
        occupancy[i] = pair.sum(0)
        onward = np.where(trigger, 0, pair.sum(0))[:, None] * law
        for t in np.flatnonzero(trigger):
            onward[t] += pair[:, t]
        pair = onward
    return occupancy


def step(size: str, repeat: int, layers: int) -> None:
    """Seconds per step of the plain loop and of the laboratory's ways of running it."""
    base = {**SIZES[size], "layers": layers, "steps": 10**6, "record": [0], "evaluation": 16}
    count = {"paper": 1, "small": 5, "short": 20}[size]
    whole = {"micro_batch": base["batch"]}
    ways: dict[str, Callable[[int], None]] = {
        "plain": plain_step(Variant.model_validate(base)),
        "float32, whole batch": our_step(Variant.model_validate(base | whole), Machine()),
        "float32, micro-batches": our_step(Variant.model_validate(base), Machine()),
        "bfloat16, micro-batches": our_step(
            Variant.model_validate(base | {"precision": "bfloat16"}), Machine()
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run(0)  # warm-up; the first call also draws the block of batches
    for i in range(repeat):
        for name, run in ways.items():
            times[name].append(seconds(run, 1 + i * count, count))
    draw = _draw_seconds(Variant.model_validate(base), repeat)
    variant = Variant.model_validate(base)
    print(
        f"width {variant.width}, batch {variant.batch}, T = {variant.task.length}, "
        f"{layers} layer(s), {torch.get_num_threads()} thread(s), "
        f"median of {repeat} × {count} steps"
    )
    plain = median(times["plain"])
    for name, found in times.items():
        taken = median(found) + (0 if name == "plain" else draw)
        print(f"  {name:34} {taken:8.4f} s/step   {plain / taken:5.2f} ×")
    print(f"  (of ours, sampling: {draw:.4f} s/step)")
    work = product_work(variant)
    for dtype in (torch.float32, torch.bfloat16):
        speed = product_speed(variant.width, repeat, dtype)
        print(
            f"  floor in {str(dtype).removeprefix('torch.')}: {work / 1e9:.3g} GFLOP of matrix "
            f"products at {speed / 1e9:.0f} GFLOP/s, {work / speed:.4f} s/step   "
            f"at most {plain * speed / work:.2f} ×"
        )


def product_work(variant: Variant) -> int:
    """Floating-point operations of a step's matrix products outside attention."""
    few = 2
    base = variant.model_copy(update={"batch": few, "micro_batch": few})
    training = Training("benchmark", base, 0, Machine())
    with FlopCounterMode(display=False) as counter:
        training.update(0)
    return counter.get_flop_counts()["Global"][torch.ops.aten.mm] // few * variant.batch


def processor() -> str:
    """What the system calls the processor, and whether it has units for bfloat16."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"model name\s*:\s*(.*)", text)
    units = [unit for unit in ("amx_bf16", "avx512_bf16") if unit in text]
    return f"{name[1] if name else platform.machine()}, {', '.join(units) or 'no bfloat16 units'}"


def product_speed(width: int, repeat: int, dtype: torch.dtype) -> float:
    """Operations per second of products of the MLP's shapes, the fastest of several."""
    found = []
    for wide, narrow in ((4 * width, width), (width, 4 * width), (width, width)):
        rows = max(1024, 2**22 // wide)
        x, weight = torch.randn(rows, narrow).to(dtype), torch.randn(wide, narrow).to(dtype)
        work = 2 * rows * wide * narrow
        count = max(1, int(4e10 / work))
        found += [
            work / seconds(lambda _, x=x, weight=weight: functional.linear(x, weight), 0, count)
            for _ in range(repeat + 1)
        ]
    return max(found)


def _draw_seconds(variant: Variant, repeat: int) -> float:
    """Sampling per step: blocks are drawn for 32 steps at once."""
    from trajectory.bb.updates import DRAWN_AT_ONCE

    task = load_task(variant.task)
    times = []
    for i in range(repeat):
        generator = torch.Generator().manual_seed(i)
        started = clock()
        task.sample(DRAWN_AT_ONCE * variant.batch, variant.task.length + 1, generator)
        times.append((clock() - started) / DRAWN_AT_ONCE)
    return median(times)


def precision(seeds: int) -> None:
    """Final statistics in float32 and bfloat16, seed by seed: is the difference within seeds?"""
    from trajectory.dynamics.bb_summary import compare

    base = {
        "width": 64,
        "batch": 32,
        "steps": 400,
        "record": [0, 400],
        "evaluation": 64,
        "optimizer": {"name": "adamw", "lr": 3e-3},
        "maps": {"sequences": 0},
    }
    columns = ("sink_excess", "delta_logit", "value_ratio")
    found: dict[str, dict[str, list[float]]] = {}
    for kind in ("float32", "bfloat16"):
        variant = Variant.model_validate({**base, "precision": kind})
        rows = found.setdefault(kind, {})
        for seed in range(seeds):
            tables = train("precision", variant, seed)
            heads = [r for r in tables["heads"] if r["step"] == 400]
            (head,) = (r for r in heads if r["domain"] == "non_trigger")
            for column in columns:
                rows.setdefault(column, []).append(head[column])
            for row in tables["checkpoints"]:
                if row["step"] == 400:
                    rows.setdefault(f"{row['domain']} excess risk", []).append(row["excess_risk"])
    print(f"width 64, batch 32, 400 steps, {seeds} seeds: bfloat16 autocast against float32")
    for column in found["float32"]:
        one, other = (np.array(found[kind][column]) for kind in ("bfloat16", "float32"))
        c = compare(one, other)
        print(
            f"  {column:28} float32 {other.mean():8.4f} (sd over seeds {other.std(ddof=1):.4f}), "
            f"difference {c['difference']:+.4f} [{c['difference_low']:+.4f}, "
            f"{c['difference_high']:+.4f}]"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("sampler", "step", "precision"))
    parser.add_argument("--size", choices=sorted(SIZES), default="paper")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(processor())
    if arguments.what == "sampler":
        sampler(arguments.repeat)
    elif arguments.what == "step":
        step(arguments.size, arguments.repeat, arguments.layers)
    else:
        precision(arguments.seeds)


if __name__ == "__main__":
    main()
