"""The sink at equal back-copy risk: toy runs of different batches learn at different paces.

    trajectory bb train --config workflow/configs/paper-once.yaml --variant b64-bf16 --seed 0 -o x/0
    python benchmarks/sink_at_risk.py x
    python benchmarks/sink_at_risk.py results/paper-once/tables --risks 1 0.41

For every trajectory under the folder: weight on ⟨s⟩ of dormant queries where the back-copy risk
first passes each level, between records linear in the logarithm of the risk.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl


def weight_at(steps: pl.DataFrame, risk: float) -> float:
    """The sink weight where the risk first falls below ``risk``, NaN if it does not."""
    fallen = np.log(steps["risk"].to_numpy()) < np.log(risk)
    if not fallen.any():
        return float("nan")
    after = slice(max(fallen.argmax() - 1, 0), fallen.argmax() + 1)
    risks, weights = (steps[name].to_numpy()[after][::-1] for name in ("risk", "sink_weight"))
    return float(np.interp(np.log(risk), np.log(risks), weights))


def main() -> None:
    """Print one line per trajectory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--risks", type=float, nargs="+", default=[1.0, 0.6, 0.41], help="nats")
    options = parser.parse_args()
    print("trajectory", *options.risks, sep="\t")
    for path in sorted(options.folder.rglob("heads.parquet")):
        dormant = pl.read_parquet(path).filter(pl.col("domain") == "non_trigger")
        risks = pl.read_parquet(path.with_name("checkpoints.parquet")).filter(
            pl.col("domain") == "trigger"
        )
        keys = ["trajectory", "step"]
        joined = dormant.select(*keys, "sink_weight").join(risks.select(*keys, "risk"), on=keys)
        for (name,), steps in joined.sort(keys).group_by("trajectory", maintain_order=True):
            found = (weight_at(steps, risk) for risk in options.risks)
            print(name, *(f"{weight:.3f}" for weight in found), sep="\t")


if __name__ == "__main__":
    main()
