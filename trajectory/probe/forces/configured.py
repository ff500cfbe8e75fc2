"""What a config's section on forces asks for."""

from __future__ import annotations

from trajectory.config.forces import Forces
from trajectory.probe.forces.keys import Keys
from trajectory.probe.forces.measure import Heads, Wanted


def at_step(forces: Forces, step: int) -> Forces:
    """What is measured at a step: without second derivatives where they are not wanted."""
    if forces.second_order == "all" or step in forces.second_order:
        return forces
    return forces.model_copy(update={"coupling": False, "arrows": False, "constant": []})


def keys_of(forces: Forces) -> Keys:
    """The keys of a config's section."""
    return Keys(0, tuple(forces.positions), tuple(forces.tokens), tuple(forces.constant))


def wanted_of(forces: Forces, domain: str | None = None) -> Wanted:
    """What a config's section asks for, second derivatives in one domain alone if it is given."""
    heads: Heads
    if isinstance(forces.heads, str):
        heads = forces.heads
    else:
        heads = tuple((place.layer, place.head) for place in forces.heads)
    return Wanted(
        keys_of(forces), heads, tuple(forces.readers[:1]), domain, forces.coupling, forces.arrows
    )
