# %% [markdown]
# # Your own training run
#
# A small OLMo is trained with transformers' `Trainer`, and a callback measures it on the way. Put your model,
# your data and your trainer in place of these.

# %%
import logging
from pathlib import Path
from tempfile import mkdtemp

from transformers import OlmoConfig, OlmoForCausalLM, Trainer, TrainingArguments

from trajectory.corpus import stdlib
from trajectory.nano.pretrain import train_tokenizer

logging.basicConfig(format="%(message)s")
logging.getLogger("trajectory").setLevel("INFO")

STEPS = 600
LENGTH = 64
texts = stdlib.documents("code")[:100]
tokenizer = train_tokenizer(texts, 2048)
ids = [id_ for text in texts for id_ in tokenizer.encode(text).ids]
sequences = [ids[n : n + LENGTH] for n in range(0, len(ids) - LENGTH, LENGTH)]
data = [{"input_ids": sequence, "labels": sequence} for sequence in sequences]

# %%
config = OlmoConfig(
    vocab_size=2048,
    hidden_size=128,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=8,
    max_position_embeddings=LENGTH,
    pad_token_id=None,
)
model = OlmoForCausalLM(config)
folder = Path(mkdtemp())
arguments = TrainingArguments(
    output_dir=str(folder / "trainer"),
    max_steps=STEPS,
    per_device_train_batch_size=16,
    learning_rate=3e-3,
    warmup_steps=STEPS // 10,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(model, arguments, train_dataset=data)

# %% [markdown]
# The callback's three arguments: on what, into which folder, and the training's name. The log says what a
# record costs before the first one, says once when sink, drain or peak has set in, and in the end what
# recording took.

# %%
from trajectory.record import TrajectoryCallback

callback = TrajectoryCallback(
    ["prose", "code"], tokenizer=tokenizer, to=folder / "my-run", name="my-run", length=LENGTH
)
callback.add_to(trainer)
trainer.train()

# %% [markdown]
# Every record is in the folder's tables. Grey lines are all heads, coloured ones the leading head of each
# domain.

# %%
from trajectory import plot, tables

heads = tables.scan(folder / "my-run", "heads")
plot.over_training(heads, "sink_excess")

# %%
plot.over_training(tables.scan(folder / "my-run", "checkpoints"), "loss")

# %% [markdown]
# Sink against drain: right is a stronger sink, down a smaller value.

# %%
plot.phase(heads)

# %% [markdown]
# `trajectory report --results FOLDER` makes the whole report of it.
