"""Which layers of a model are changed, and changes of a model while it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import Discriminator, Field, Tag

from trajectory.config.base import Section

LayerIndex = Annotated[int, Field(ge=0)]
Layers = Annotated[
    Annotated[Literal["all"], Tag("<all>")]
    | Annotated[list[LayerIndex], Field(min_length=1), Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<all>"),
]


class Placed(Section):
    """A change of some of a model's layers."""

    kind: str
    """What is changed."""
    layers: Layers = "all"
    """Layers to change, from 0: a list, or all that have the component."""

    @property
    def places(self) -> list[int]:
        """The layers as a list, once ``placed`` has seen the change."""
        assert isinstance(self.layers, list)
        return self.layers


Change = TypeVar("Change", bound=Placed)


def placed(changes: Sequence[Change], having: Callable[[str], list[int]]) -> list[Change]:
    """The changes, each with a list of layers.

    Args:
        changes: of one model.
        having: the model's layers that have what a kind changes.

    Raises:
        ValueError: if all are to be changed and none has it.
    """
    found = {change.kind: having(change.kind) for change in changes if change.layers == "all"}
    for kind, layers in found.items():
        if not layers:
            raise ValueError(f"{kind}: no layer has what it changes")
    return [
        change.model_copy(update={"layers": found[change.kind]})
        if change.layers == "all"
        else change
        for change in changes
    ]


class Hold(Placed):
    """A change of the model while it trains: the causal test of mutual reinforcement.

    A recorded step or checkpoint is measured with the change.
    """

    kind: Literal["hold_value", "force_attention"]
    """hold_value: the value at ``position`` is frozen at ``from_step`` in every head (no drain), at
    the mean over sequences if they differ, and W_O gets no gradient through it. force_attention:
    later queries attend to ``position`` in every head; in a toy, only the non-triggers."""
    position: Annotated[int, Field(ge=0)] = 0
    """Key position: 0 is the sink. Any other is a sham, for which `sham` must be true."""
    from_step: Annotated[int, Field(ge=0)] = 0
    """First step with the change; must be before the last step."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """force_attention: share of the weight that is moved."""


def refuse_holds(holds: Sequence[Hold], length: int, steps: int, sham: bool) -> None:
    """Raise ValueError unless a training can be held so.

    Args:
        holds: whose layers are known.
        length: tokens per sequence.
        steps: the training's updates.
        sham: whether the training is a sham.
    """
    changed = [layer for hold in holds for layer in hold.places]
    for layer in changed:
        if changed.count(layer) > 1:
            raise ValueError(f"during: layer {layer} is changed twice; one change per layer")
    for hold in holds:
        if hold.position > length - 2:
            raise ValueError(
                f"{hold.kind}: position {hold.position} is beyond {length - 2}, the last one that "
                f"a query reads at length {length}"
            )
        if hold.from_step >= steps:
            raise ValueError(
                f"{hold.kind}: from_step {hold.from_step} is not before the last step {steps}: "
                "nothing would change"
            )
        if hold.position and not sham:
            raise ValueError(
                f"{hold.kind}: position {hold.position} is not the sink but a sham: set "
                "'sham: true', or hold position 0"
            )
