# %% [markdown]
# # A public trajectory
#
# Checkpoints of a pretraining on the Hugging Face hub are measured one after the other, without being saved
# to disk. The registry knows how the suites' revisions are named.

# %%
from trajectory.config.registry import registered

SUITE = "pythia-14m"
suite = registered()[SUITE]
repository = suite["repository"]
repository, suite["model_type"]

# %% [markdown]
# Which revisions there are. This cell and the next need the network.

# %% tags=["network"]
from trajectory.checkpoints.names import parse_revision
from trajectory.config import Fetch
from trajectory.hub.client import Hub

names = {
    named.step: branch
    for branch in Hub(Fetch()).refs(repository)
    if (named := parse_revision(branch, suite.get("pattern"))) is not None
}
steps = [step for step in (1, 16, 128, 512, 1000, 3000, 10000, 143000) if step in names]
steps

# %% tags=["network"]
import polars as pl

from trajectory.api import measure

frames = []
for step in steps:
    measured = measure(repository, ["prose", "code"], revision=names[step], length=128)
    place = {"trajectory": pl.lit(SUITE), "step": pl.lit(step, pl.Int64)}
    frames.append(measured.heads.with_columns(**place))
heads = pl.concat(frames)

# %% [markdown]
# The sink over training, and the map of its heads at the end.

# %% tags=["network"]
from trajectory import plot

plot.over_training(heads, "sink_excess")

# %% tags=["network"]
plot.heads(heads)

# %% [markdown]
# For more than a look, write a config with this suite and let the workflow choose, audit, fetch and measure:
#
# ```yaml
# name: pythia
# results: results/pythia
# suites: {pythia-14m: {select: {log_spaced: {count: 24}}}}
# ```
