"""Claims about Llama: the head that one domain awakes, and the circuit of the residual peak."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trajectory.dynamics.claims.evidence import Absent, Evidence, Value, exact
from trajectory.dynamics.claims.ledger import Claim, Finding, Ledger

LLAMAS = Ledger()

L16H25 = Claim(
    "l16h25",
    "Llama-2-7B's L16H25 puts .95 of its weight on ⟨s⟩ on Wikipedia and .25 on GitHub, and matters only there",
    "figure 8",
    "language_model",
)


def _called(evidence: Evidence, name: str) -> list[str]:
    models = evidence.language_models()
    return [t for recipe in models for t in recipe.trajectories if name in t.lower()]


def _llama_2(evidence: Evidence) -> list[str]:
    found = _called(evidence, "llama-2-7b")
    if not found:
        raise Absent("this run does not measure Llama-2-7B")
    return found


for _domain, _low, _high in (("wikipedia", 0.93, 0.97), ("github", 0.20, 0.30)):

    def _weight(evidence: Evidence, domain: str = _domain) -> Iterator[Finding]:
        for trajectory in _llama_2(evidence):
            where = {"trajectory": trajectory, "domain": domain, "layer": 16, "head": 25}
            try:
                weight = evidence.series("heads", "sink_weight", **where)[1][-1]
            except Absent as absent:
                yield Finding.without(trajectory, domain, absent)
            else:
                yield Finding(trajectory, domain, exact(float(weight)))

    LLAMAS.criterion(
        L16H25,
        f"weight on {_domain}",
        f"mean weight on ⟨s⟩ of layer 16, head 25 on {_domain}",
        at_least=_low,
        at_most=_high,
        tables=("heads",),
    )(_weight)

LLAMA = Claim(
    "llama-3.1-phenomena",
    "In Llama-3.1-8B the residual norm of ⟨s⟩ jumps to about 490 after the second layer and stays; its values are a tenth of the others'; layer 24 attends to it",
    "figure 1",
    "language_model",
)


def _llama(evidence: Evidence) -> list[str]:
    found = _called(evidence, "llama-3.1-8b")
    if not found:
        raise Absent("this run does not measure Llama-3.1-8B")
    return found


@LLAMAS.criterion(
    LLAMA,
    "residual norm",
    "median over depths 2 to 30 of ‖h_s‖ at the last checkpoint",
    unit="activation",
    at_least=440,
    at_most=550,
    tables=("layers",),
)
def _llama_norm(evidence: Evidence) -> Iterator[Finding]:
    for trajectory in _llama(evidence):
        for domain in evidence.domains(trajectory):
            frame = evidence.frame("layers").filter(trajectory=trajectory, domain=domain)
            last = frame.filter(frame["step"] == frame["step"].max())
            inner = last.filter(last["layer"].is_between(2, 30))["residual_norm_sink"]
            if not len(inner):
                yield Finding(trajectory, domain, None, "'layers' holds no depth from 2 to 30")
                continue
            low, high = (float(inner.quantile(q) or 0.0) for q in (0.025, 0.975))
            yield Finding(
                trajectory,
                domain,
                Value(float(inner.median() or 0.0), low, high, "layers"),  # type: ignore[arg-type]
            )


@LLAMAS.criterion(
    LLAMA,
    "attention of layer 24",
    "median over heads of the weight on ⟨s⟩ in layer 24 at the last checkpoint",
    at_least=0.95,
    tables=("heads",),
)
def _llama_attention(evidence: Evidence) -> Iterator[Finding]:
    for trajectory in _llama(evidence):
        for domain in evidence.domains(trajectory):
            frame = evidence.frame("heads").filter(trajectory=trajectory, domain=domain, layer=24)
            if not frame.height:
                yield Finding(trajectory, domain, None, "'heads' holds no layer 24")
                continue
            weights = frame.filter(frame["step"] == frame["step"].max())["sink_weight"]
            yield Finding(trajectory, domain, exact(float(weights.median() or 0.0)))  # type: ignore[arg-type]


@LLAMAS.criterion(
    LLAMA,
    "values",
    "median over all heads of ‖W_O v_s‖ over the median of the others at the last checkpoint; a tenth in the paper",
    at_most=0.2,
    tables=("heads",),
)
def _llama_values(evidence: Evidence) -> Iterator[Finding]:
    for trajectory in _llama(evidence):
        for domain in evidence.domains(trajectory):
            frame = evidence.frame("heads").filter(trajectory=trajectory, domain=domain)
            ratios = frame.filter(frame["step"] == frame["step"].max())["output_value_ratio"]
            yield Finding(trajectory, domain, exact(float(ratios.median())))  # type: ignore[arg-type]


CIRCUIT = Claim(
    "llama-3.1-circuit",
    "Zeroing the MLP of layer 0 or 1 of Llama-3.1-8B removes the residual peak; zeroing attention does not",
    "section 3.3",
    "language_model",
)


def _changed(
    evidence: Evidence, trajectory: str, domain: str, change: str
) -> dict[str, float | None]:
    rows = evidence.rows("interventions", trajectory=trajectory, domain=domain, changes=change)
    if not rows:
        raise Absent(f"'interventions' holds no '{change}' of {trajectory} on {domain}")
    return max(rows, key=lambda row: row["step"])


for _name, _kind, _layers, _pick, _floor, _ceiling in (
    ("without an early MLP", "zero_mlp", (0, 1), max, None, 60),
    ("without an early attention", "zero_attention", (0, 1, 2), min, 440, None),
):

    def _circuit(
        evidence: Evidence,
        kind: str = _kind,
        layers: tuple[int, ...] = _layers,
        pick: Callable[[list[float]], float] = _pick,
    ) -> Iterator[Finding]:
        for trajectory in _llama(evidence):
            for domain in evidence.domains(trajectory):
                try:
                    norms = [
                        _changed(evidence, trajectory, domain, f"{kind} layer {layer}")[
                            "residual_norm_sink_max"
                        ]
                        for layer in layers
                    ]
                except Absent as absent:
                    yield Finding.without(trajectory, domain, absent)
                else:
                    known = [n for n in norms if n is not None]
                    value = exact(pick(known)) if known else None
                    reason = "" if known else "'interventions' holds no norm of ⟨s⟩"
                    yield Finding(trajectory, domain, value, reason)

    LLAMAS.criterion(
        CIRCUIT,
        _name,
        f"{_pick.__name__} over layers {', '.join(map(str, _layers))} of the greatest ‖h_s‖ with {_kind} in that layer",
        unit="activation",
        at_least=_floor,
        at_most=_ceiling,
        tables=("interventions",),
    )(_circuit)

for _domain, _smallest, _greatest in (("wikipedia", None, 0.001), ("github", 0.01, None)):

    def _effect(evidence: Evidence, domain: str = _domain) -> Iterator[Finding]:
        for trajectory in _llama_2(evidence):
            try:
                row = _changed(evidence, trajectory, domain, "zero_head layer 16 head 25")
            except Absent as absent:
                yield Finding.without(trajectory, domain, absent)
                continue
            difference, error = row["loss_difference"], row["loss_difference_se"]
            assert difference is not None
            reach = None if error is None else 1.96 * error
            low, high = (None if reach is None else difference + k * reach for k in (-1, 1))
            kind = "none" if reach is None else "sequences"
            yield Finding(trajectory, domain, Value(difference, low, high, kind))

    LLAMAS.criterion(
        L16H25,
        f"effect on {_domain}",
        f"loss on {_domain} with layer 16, head 25 zeroed, minus the unchanged model's",
        unit="nats/token",
        at_least=_smallest,
        at_most=_greatest,
        tables=("interventions",),
    )(_effect)
