"""Between volumes, (i, j, k) in any orientation, and a network's arrays, (z, y, x) in one.

nnU-Net's readers give arrays with the axes reversed: (k, j, i), spacing likewise. A model
knows the orientation of its training images; every image is brought to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume, read_header

# Of a spacing that is told from an affine of float32, beside the header's own.
_AFFINE_ROUNDING = 1e-5


def to_network(
    volume: Volume, orientation: str, *, spacing: Sequence[float] | None = None
) -> tuple[NDArray[Any], list[float]]:
    """A volume's voxels in the axes of nnU-Net's readers.

    Args:
        volume: CT or labels, any orientation.
        orientation: of the model, such as `"LAI"`.
        spacing: mm along the volume's (i, j, k), see `header_spacing`; None takes the affine's.

    Returns:
        (k, j, i) view of the voxels in that orientation, and its spacing in mm along (k, j, i).
    """
    along = turned_spacing(spacing or volume.geometry.spacing, volume.geometry, orientation)
    return volume.reoriented(orientation).array.T, along[::-1]


def turned_spacing(spacing: Sequence[float], geometry: Geometry, orientation: str) -> list[float]:
    """Millimetres along (i, j, k) of a grid as those along its axes when turned."""
    turned = list(spacing)
    for source, (target, _) in enumerate(geometry.axis_map(orientation)):
        turned[int(target)] = spacing[source]
    return turned


def header_spacing(path: Path, geometry: Geometry) -> tuple[float, ...]:
    """Millimetres along (i, j, k) as a file's header says them, which nnU-Net's readers take.

    Those of a tilted affine differ in the last digits: 33 slices of 5.0000002 mm are 83 voxels of
    2 mm in place of 82, and 1 x 1 x 3.0000001 mm are more than threefold, a coarse axis.

    Args:
        path: the NIfTI file.
        geometry: its grid, whose own spacing holds where the header says another.
    """
    said = tuple(float(mm) for mm in read_header(path).raw["pixdim"][1:4])
    pairs = zip(said, geometry.spacing, strict=True)
    alike = all(abs(a - b) <= _AFFINE_ROUNDING * b for a, b in pairs)
    return said if alike else geometry.spacing


def axis_name(axis: int, transpose: tuple[int, ...]) -> str:
    """`"i"`, `"j"` or `"k"`: the axis of a volume that an axis of the network's arrays is.

    Args:
        axis: spatial axis of the network's input, 0 to 2.
        transpose: the plans' `transpose_forward`.
    """
    return "kji"[transpose[axis]]
