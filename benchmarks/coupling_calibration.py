"""Whether the coupled system's intervals and verdicts keep their promises, in full.

    python benchmarks/coupling_calibration.py [--runs 500] [--replicates 60] [--seed 1]

Simulates runs with and without arrows, fits each, and prints the coverage of every parameter's 95 %
interval, how often an uncoupled pair is called coupled, and the power at a few arrows.
"""

from __future__ import annotations

import argparse
import time

from trajectory.dynamics.calibration import DEVIATION, LENGTH, RECORDS, calibrate, power

ARROWS = ((0.0, 0.1), (0.0, 0.3), (1.0, 0.0), (1.0, 0.3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--replicates", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-power", action="store_true")
    given = parser.parse_args()
    print(
        f"{given.runs} runs, {RECORDS} records each, noise {DEVIATION}, correlation length {LENGTH}"
    )
    for coupled in (False, True):
        started = time.process_time()
        found = calibrate(given.runs, coupled, given.seed, given.replicates)
        spent = time.process_time() - started
        print(f"\n{'with' if coupled else 'without'} arrows ({spent:.0f} s of CPU)")
        for name, share in found.coverage.items():
            print(f"  {name:14} held in {share:6.1%}   closed in {found.closed[name]:6.1%}")
        print(f"  null without arrows rejected in {found.declared:.1%}")
        print("  verdicts", dict(sorted(found.verdicts.items())), flush=True)
    if not given.no_power:
        print("\npower against the null without arrows")
        for drain, sink in ARROWS:
            share = power(given.runs // 5, drain, sink, given.seed, given.replicates)
            print(f"  A = {drain:.1f}, C = {sink:.1f}: {share:.0%}", flush=True)


if __name__ == "__main__":
    main()
