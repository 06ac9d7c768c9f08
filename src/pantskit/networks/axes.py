"""Between volumes, (i, j, k) in any orientation, and nnU-Net's arrays, (c, z, y, x) in one.

nnU-Net's readers give arrays with the axes reversed: (k, j, i), spacing likewise. A model
knows the orientation of its training images; every image is brought to it, and the answer
is brought back by the same flips and permutation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume

Array = NDArray[Any]


def to_network(volume: Volume, orientation: str) -> tuple[NDArray[np.float32], list[float]]:
    """An image as nnU-Net reads it.

    Args:
        volume: CT in HU, any orientation.
        orientation: of the model, such as `"LAI"`.

    Returns:
        (1, k, j, i) float32 in that orientation, and its spacing in mm along (k, j, i).
    """
    turned = volume.reoriented(orientation)
    array = np.ascontiguousarray(turned.array.T, dtype=np.float32)[None]
    return array, list(turned.geometry.spacing[::-1])


def label_to_network(labels: Volume, orientation: str) -> NDArray[np.int16]:
    """A label map as nnU-Net reads it: (1, k, j, i) int16 in the model's orientation."""
    return np.ascontiguousarray(labels.reoriented(orientation).array.T, dtype=np.int16)[None]


def from_network(labels: Array, geometry: Geometry, orientation: str) -> Volume:
    """A label map of nnU-Net's axes on the grid of the image it was made from.

    Args:
        labels: (k, j, i) in the model's orientation.
        geometry: the image's own grid.
        orientation: the model's.
    """
    turned = Volume(labels.T, geometry.reoriented(orientation))
    return Volume(turned.reoriented(geometry.orientation).array, geometry)


def axis_name(axis: int, transpose: tuple[int, ...]) -> str:
    """`"i"`, `"j"` or `"k"`: the axis of a volume that an axis of the network's arrays is.

    Args:
        axis: spatial axis of the network's input, 0 to 2.
        transpose: the plans' `transpose_forward`.
    """
    return "kji"[transpose[axis]]
