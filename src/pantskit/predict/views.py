"""A CT's arrays in the axes of a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume, read_header
from pantskit.networks.folder import Model

# Of a spacing that is told from an affine of float32, beside the header's own.
_AFFINE_ROUNDING = 1e-5


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
        for source, (target, _) in enumerate(geometry.axis_map(model.orientation)):
            turned[int(target)] = spacing[source]
    return [turned[2 - axis] for axis in model.plans.transpose]


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
