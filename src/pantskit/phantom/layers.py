"""What an anatomy is: shapes painted one over the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pantskit.phantom.shapes import HalfSpace, Shape


@dataclass(frozen=True)
class Layer:
    """Paint a shape.

    Attributes:
        shape: where.
        tissues: (depth in mm, tissue), rising: the wall from 0, the lumen from the wall's
            thickness on.
        over: paint only over these tissues; None: over all.
        world: the shape is given in RAS+ mm of the world, not in the atlas.
    """

    shape: Shape
    tissues: tuple[tuple[float, str], ...]
    over: tuple[str, ...] | None = None
    world: bool = False


@dataclass(frozen=True)
class Relabel:
    """On one side of a plane, a tissue becomes another: parts of the pancreas, gas over liquid.

    Attributes:
        side: where, in atlas mm.
        changes: tissue to the tissue it becomes.
    """

    side: HalfSpace
    changes: Mapping[str, str]


def layer(shape: Shape, tissue: str, *inner: tuple[float, str], over: str = "") -> Layer:
    """`layer(shape, "stomach_wall", (4, "stomach_lumen"), over="fat muscle")`."""
    return Layer(shape, ((0.0, tissue), *inner), tuple(over.split()) or None)
