# %% [markdown]
# # Your own training run
#
# A tiny OLMo is trained with transformers' `Trainer`, and a callback measures it on the way: a minute on one
# core, in which attention sinks arise. Put your model, your data and your trainer in place of these.

# %%
import logging
from pathlib import Path
from tempfile import mkdtemp

from transformers import OlmoConfig, OlmoForCausalLM, Trainer, TrainingArguments, set_seed

from trajectory.corpus import stdlib
from trajectory.nano.pretrain import save_tokenizer, train_tokenizer

logging.basicConfig(format="%(message)s")
logging.getLogger("trajectory").setLevel("INFO")

STEPS = 1000
LENGTH = 64
folder = Path(mkdtemp())
texts = [t for domain in ("prose", "code") for t in stdlib.split(stdlib.documents(domain))[0]]
tokenizer = train_tokenizer(texts, 512)
save_tokenizer(tokenizer, folder / "tokenizer", LENGTH)
end = tokenizer.token_to_id("<|endoftext|>")
ids = [id_ for encoded in tokenizer.encode_batch(texts) for id_ in (*encoded.ids, end)]
sequences = [[end, *ids[n : n + LENGTH - 1]] for n in range(0, len(ids) - LENGTH, LENGTH - 1)]
data = [{"input_ids": sequence, "labels": sequence} for sequence in sequences]

# %%
config = OlmoConfig(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=8,
    max_position_embeddings=LENGTH,
    eos_token_id=end,
    pad_token_id=None,
)
set_seed(0)  # of the weights at first; the trainer's own is that of the batches
model = OlmoForCausalLM(config)
arguments = TrainingArguments(
    output_dir=str(folder / "trainer"),
    max_steps=STEPS,
    per_device_train_batch_size=8,
    learning_rate=2e-2,
    lr_scheduler_type="constant_with_warmup",
    warmup_steps=50,
    adam_beta2=0.95,
    weight_decay=0.1,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(model, arguments, train_dataset=data)

# %% [markdown]
# The callback is told on what it measures, into which folder, and the training's name. The log says what a
# record costs before the first one, says once when sink, drain or peak has set in, and in the end what
# recording took.

# %%
from trajectory.record import TrajectoryCallback, log_spaced

callback = TrajectoryCallback(
    ["prose", "code"],
    to=folder / "my-run",
    name="my-run",
    at=log_spaced(STEPS, 20, first=10),
    tokenizer=folder / "tokenizer",
    first_token="eos_prepended",
    length=LENGTH,
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
# The last record, head by head: the frame is around the strongest sink.

# %%
plot.heads(heads)

# %% [markdown]
# `trajectory report --results FOLDER` makes the whole report of it.
