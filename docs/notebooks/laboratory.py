# %% [markdown]
# # The Bigram-Backcopy laboratory
#
# A toy task in which a head has nothing to do at most positions: copy back after a trigger token, follow the
# bigram table everywhere else. A variant is a section of a config. Here a transformer of one layer with
# softmax attention is compared with one of ReLU attention, whose weights need not sum to one.

# %%
from trajectory.bb.train import train
from trajectory.config import parse

STEPS = 400
shared = {
    "width": 32,
    "batch": 16,
    "task": {"length": 32},
    "optimizer": {"name": "adamw", "lr": 1e-2},
    "steps": STEPS,
    "record": {"first": 1, "count": 12},
    "seeds": [0],
}
config = parse(
    {
        "name": "laboratory",
        "results": "results/laboratory",
        "bb": {
            "variants": {
                "softmax": shared,
                "relu": {**shared, "attention": "relu", "control": "softmax"},
            }
        },
    }
)

# %%
import polars as pl

from trajectory.schemas import HEADS
from trajectory.tables import from_rows

tables = []
for name, variant in config.bb.variants.items():
    rows = train(name, variant, seed=0)
    tables.append(pl.DataFrame(from_rows(rows["heads"], HEADS)))
heads = pl.concat(tables)

# %% [markdown]
# On non-trigger positions the softmax head puts its weight on the start token.

# %%
from trajectory import plot

dormant = heads.filter(domain="non_trigger")
plot.over_training(dormant, "sink_excess")

# %% [markdown]
# And it drains that token's value: to attend there adds little.

# %%
plot.over_training(dormant, "value_ratio")

# %% [markdown]
# `trajectory bb list --config my.yaml` lists the variants of a config, and `docs/bb.md` explains what they
# can change.
