"""The probe's token batches of a suite: made once, measured on every checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi

from trajectory.config import Probe
from trajectory.corpus import stdlib
from trajectory.corpus.documents import Document, Text, TextFile
from trajectory.corpus.parquet import HUB, read_texts
from trajectory.corpus.repeated import repeated_random
from trajectory.corpus.tokenizer import load_tokenizer
from trajectory.corpus.tokens import TokenBatch, first_id, sequences_of
from trajectory.errors import TrajectoryError
from trajectory.hub import environment
from trajectory.outside import CONFIG, stated_context
from trajectory.schemas import BATCHES
from trajectory.schemas.base import REPEATED
from trajectory.tables import read


def make_batches(suite: str, tokenizer_folder: Path, probe: Probe) -> list[dict[str, Any]]:
    """Rows of the ``batches`` table: text of every domain in the suite's tokens, or random ones.

    A domain whose text is too short for ``probe.sequences`` that do not overlap has fewer.

    Raises TrajectoryError if the tokenizer or a text cannot be read, a text is too short for one
    sequence, or the vocabulary for a block of distinct tokens.
    """
    tokenizer = load_tokenizer(tokenizer_folder, f"suite '{suite}'")
    first = first_id(tokenizer, probe.first_token, f"suite '{suite}'")
    context = stated_context(tokenizer_folder / CONFIG)
    rows = []
    for domain, held_out in _sources(probe):
        size = probe.sequences, probe.length
        _check_length(probe.length, context, f"suite '{suite}', domain '{domain}'")
        try:
            if domain == REPEATED:
                drawn = repeated_random(tokenizer, *size, first)
            else:
                drawn = sequences_of(tokenizer, held_out, *size, first)
        except TrajectoryError as error:
            raise TrajectoryError(f"suite '{suite}', domain '{domain}': {error}") from None
        rows += [
            {
                "suite": suite,
                "domain": domain,
                "sequence": i,
                "first_token": probe.first_token,
                "tokens": tokens,
                "texts": tokenizer.convert_ids_to_tokens(tokens),
                "ends": tokenizer.ends,
            }
            for i, tokens in enumerate(drawn.tolist())
        ]
    for domain, prompts in probe.prompts.items():
        for i, prompt in enumerate(prompts):
            where = f"suite '{suite}', domain '{domain}', prompt {i}"
            try:
                tokens = tokenizer.encode_prompt(prompt)
            except TrajectoryError as error:
                raise TrajectoryError(f"{where}: {error}") from None
            if len(tokens) < 2:
                raise TrajectoryError(f"{where}: fewer than two tokens")
            _check_length(len(tokens), context, where)
            rows.append(
                {
                    "suite": suite,
                    "domain": domain,
                    "sequence": i,
                    "first_token": "raw",
                    "tokens": tokens,
                    "texts": tokenizer.convert_ids_to_tokens(tokens),
                    "ends": tokenizer.ends,
                }
            )
    return rows


def _check_length(length: int, context: int | None, where: str) -> None:
    if context is not None and length > context:
        raise TrajectoryError(
            f"{where}: {length:,} tokens, but the model's context is {context:,} "
            "(max_position_embeddings in its config.json)"
        )


def _sources(probe: Probe) -> Iterator[tuple[str, list[Document]]]:
    """Every domain but prompts with its documents, one domain in memory at a time; random tokens
    have none."""
    for domain in probe.domains:
        drawn = domain == REPEATED
        texts = [] if drawn else stdlib.split(stdlib.documents(domain))[1]
        yield domain, [Text(text) for text in texts]
    for name, path in probe.texts.items():
        yield name, [TextFile(path)]
    for name, given in probe.parquet.items():
        if given.source.startswith(HUB):
            environment.client(HfApi().endpoint)  # or the mistake would be the file's
        found = read_texts(given.source, given.column, given.rows)
        yield name, [Text(text) for text in found]


def read_batches(path: Path) -> list[TokenBatch]:
    """The batches written by ``make_batches``, by domain.

    Raises TrajectoryError for a missing, damaged or foreign file.
    """
    rows = read(path, BATCHES).to_pylist()
    batches = []
    for domain in dict.fromkeys(row["domain"] for row in rows):
        chosen = [row for row in rows if row["domain"] == domain]
        lengths = torch.tensor([len(row["tokens"]) for row in chosen])
        longest = int(lengths.max())
        padded = [row["tokens"] + [0] * (longest - len(row["tokens"])) for row in chosen]
        batches.append(
            TokenBatch(
                domain,
                torch.tensor(padded, dtype=torch.int64),
                [[*row["texts"], *[""] * (longest - len(row["texts"]))] for row in chosen],
                chosen[0]["first_token"],
                None if bool((lengths == longest).all()) else lengths,
                tuple(chosen[0]["ends"]),
            )
        )
    return batches
