# %% [markdown]
# # Quick start
#
# One model, three lines, two pictures. The model is nano-olmo, a small OLMo that this cell pretrains on the
# texts that every Python carries, in about ten minutes on one core. Any folder with config, safetensors and
# tokenizer does as well, such as `results/suites/nano-olmo/stage1-step3000` of a default run.

# %%
from pathlib import Path
from tempfile import mkdtemp

from trajectory.config import NanoOlmo
from trajectory.nano.pretrain import pretrain

STEPS = 3000
folder = Path(mkdtemp()) / "nano-olmo"
pretrain(NanoOlmo(steps=STEPS, checkpoints=[0, STEPS]), folder)

# %% [markdown]
# Measure it. Printed, it says what matters of each domain: the loss in nats per token, the share of
# sequences and heads with a sink, the head with the strongest sink, and the residual peak.

# %%
from trajectory.api import measure

checkpoint = folder / f"stage1-step{STEPS}"
measured = measure(checkpoint, ["prose", "code"], length=64, first_token="eos_prepended")
measured

# %% [markdown]
# Two pictures: every head's sink excess, the weight on the first token above that of uniform attention; and
# the norm of the residual stream at the first token beside that of the others.

# %%
measured.plot()

# %% [markdown]
# The frames behind them are Polars. Their columns are those of the tables `heads` and `layers`.

# %%
measured.heads.sort("sink_excess", descending=True).select(
    "domain", "layer", "head", "sink_excess", "delta_logit", "value_ratio"
).head()

# %% [markdown]
# Take a part away and measure again: without the first MLP, for instance.

# %%
from trajectory.probe.interventions import Intervention

without = measure(
    checkpoint,
    ["prose", "code"],
    length=64,
    first_token="eos_prepended",
    interventions=[Intervention("zero_mlp", layer=0)],
)
without
