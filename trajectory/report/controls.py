"""What a page lets its readers choose."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

Value = str | int | float | bool


@dataclass(frozen=True)
class Choice:
    """A list of which one value is chosen.

    Attributes:
        name: the parameter of charts that it sets.
        label: what it is called.
        options: values with their names.
        value: the first choice.
        section: the frame it stands in.
        groups: title → the values that stand below it in a long list; empty where it is short.
        buttons: whether every option is a button of its own.
    """

    name: str
    label: str
    options: Sequence[tuple[Value, str]]
    value: Value
    section: str = "Show"
    groups: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    buttons: bool = False

    @property
    def kind(self) -> str:
        """How it is drawn."""
        return "buttons" if self.buttons else "choice"


@dataclass(frozen=True)
class Checks:
    """A list of which any values are chosen; the parameter is an array.

    Attributes:
        patterns: value → the pattern of its lines, in pixels of dashes and gaps; shown beside it.
    """

    name: str
    label: str
    options: Sequence[tuple[Value, str]]
    value: Sequence[Value]
    section: str = "Show"
    patterns: Mapping[Value, Sequence[int]] = field(default_factory=dict)
    kind: str = "checks"

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose."""
        return bool(self.options)


@dataclass(frozen=True)
class Switch:
    """On or off."""

    name: str
    label: str
    value: bool
    section: str = "Show"
    kind: str = "switch"


@dataclass(frozen=True)
class Slider:
    """A place in a list that depends on other choices, such as the records of a trajectory.

    Attributes:
        places: what every place is called; none where that depends on other choices.
        plays: whether a button moves it from its first place to its last.
    """

    name: str
    label: str
    last: int
    value: int
    section: str = "Show"
    places: Sequence[str] = ()
    plays: bool = False
    kind: str = "slider"


@dataclass(frozen=True)
class Number:
    """A whole number from 0; the page's script bounds it."""

    name: str
    label: str
    value: int
    last: int
    section: str = "Show"
    kind: str = "number"


@dataclass(frozen=True)
class Legend:
    """Every trajectory with its colour, to be shown or hidden; the parameter is an array.

    Attributes:
        groups: name, colour and trajectories of each group.
        hidden: groups that a reader has to ask for.
    """

    groups: Sequence[tuple[str, str, Sequence[str]]]
    hidden: Collection[str] = ()
    name: str = "shown"
    label: str = "Runs"
    section: str = "Runs"
    kind: str = "legend"

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose."""
        return bool(self.groups)

    @property
    def value(self) -> list[str]:
        """The trajectories shown at first."""
        return [t for group, _, own in self.groups if group not in self.hidden for t in own]


@dataclass(frozen=True)
class Fixed:
    """A parameter of charts that the page lets nobody change."""

    name: str
    value: Value | Sequence[Value]
    section: str = ""
    kind: str = "fixed"


Control = Choice | Checks | Switch | Slider | Number | Legend | Fixed
