"""Why a table may be absent from a run, as the end of "Not measured in this run, because …"."""

from __future__ import annotations

REASONS: dict[str, str] = {
    **dict.fromkeys(("contrasts", "gates"), "no softmax run has two domains"),
    **dict.fromkeys(
        ("careers", "role_changes"),
        "no head has roles: they are measured with column masses, or no role changes",
    ),
    "role_order": "no two of induction, previous token, sink and drain set in between records",
    "onset_sizes": "no family of its config has onsets of runs whose parameters are known",
    "leads": "no head, layer or run has the onsets of two phenomena",
    **dict.fromkeys(
        ("alignments", "alignment_scales", "aligned"),
        "fewer than two of its runs have a sink and enough checkpoints to share a curve",
    ),
    "laws": "no run has enough checkpoints after its onset",
    **dict.fromkeys(
        ("manifest", "batches", "outcomes"), "its config names no suite of language models"
    ),
    **dict.fromkeys(
        ("interventions", "intervention_layers"),
        "its config names no interventions on language models",
    ),
    "head_effects": "its config asks for no heads of language models to be zeroed",
    **dict.fromkeys(
        (
            *("bb_types", "bb_residuals", "bb_maps"),
            *("bb_scalars", "bb_milestones"),
        ),
        "its config names no Bigram-Backcopy variant",
    ),
    **dict.fromkeys(
        ("forces", "force_means", "force_layers", "reinforcement", "motions", "motion_tests"),
        "its config asks for no forces",
    ),
    "arrows": "its config asks for no arrows of the gradient flow",
    "holds": "no experiment of its config holds a value or forces a sink beside a control",
    "forks": "no training of its config asks for forks",
    "bb_comparisons": "no Bigram-Backcopy variant of its config has a control with seeds in common",
    **dict.fromkeys(
        ("bb_interventions", "bb_intervened"), "no variant of its config names interventions"
    ),
}

ELSEWHERE: dict[str, str] = {
    "selection": "Not among these: it is for people, in selections/ of the results.",
    "bundle": "Not among these: it is kept beside the measurements of each job.",
}
"""Tables that no run has among its own, and where they are."""


def reason(table: str) -> str:
    """Why the table is absent or empty."""
    return REASONS.get(table, f"its results hold no table {table}")
