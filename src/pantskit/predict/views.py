"""A CT's arrays in the axes of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.networks.axes import turned_spacing
from pantskit.networks.folder import Model


def network_view(array: NDArray[Any], geometry: Geometry, model: Model) -> NDArray[Any]:
    """An (i, j, k) array in the network's axes (z, y, x), without copying."""
    turned = Volume(array, geometry)
    if model.orientation is not None:
        turned = turned.reoriented(model.orientation)
    return turned.array.T.transpose(model.plans.transpose)


def network_spacing(spacing: Sequence[float], geometry: Geometry, model: Model) -> list[float]:
    """Millimetres along (i, j, k) of a grid as those along the network's axes."""
    turned = list(spacing)
    if model.orientation is not None:
        turned = turned_spacing(spacing, geometry, model.orientation)
    return [turned[2 - axis] for axis in model.plans.transpose]
