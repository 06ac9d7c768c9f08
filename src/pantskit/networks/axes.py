"""Between volumes, (i, j, k) in any orientation, and a network's arrays, (z, y, x) in one.

nnU-Net's readers give arrays with the axes reversed: (k, j, i), spacing likewise. A model
knows the orientation of its training images; every image is brought to it.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pantskit.core.volume import Volume


def to_network(volume: Volume, orientation: str) -> tuple[NDArray[Any], list[float]]:
    """A volume's voxels in the axes of nnU-Net's readers.

    Args:
        volume: CT or labels, any orientation.
        orientation: of the model, such as `"LAI"`.

    Returns:
        (k, j, i) view of the voxels in that orientation, and its spacing in mm along (k, j, i).
    """
    turned = volume.reoriented(orientation)
    return turned.array.T, list(turned.geometry.spacing[::-1])


def axis_name(axis: int, transpose: tuple[int, ...]) -> str:
    """`"i"`, `"j"` or `"k"`: the axis of a volume that an axis of the network's arrays is.

    Args:
        axis: spatial axis of the network's input, 0 to 2.
        transpose: the plans' `transpose_forward`.
    """
    return "kji"[transpose[axis]]
