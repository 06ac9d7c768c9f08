"""Segmentations of 3D Slicer: NRRD files that name the segments in them (.seg.nrrd)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pantskit.core.errors import ImageError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import Mask
from pantskit.core.nrrd import read_fields, read_nrrd_header, read_voxels
from pantskit.core.volume import Array


@dataclass(frozen=True)
class Segment:
    """One segment of a 3D Slicer segmentation.

    Attributes:
        number: its number in the file, from 0.
        name: as shown in Slicer.
        value: of its voxels.
        layer: the volume that holds it.
        codes: (scheme, value) of category, type, type modifier, region and region modifier;
            empty where the file has no terminology.
    """

    number: int
    name: str
    value: int
    layer: int
    codes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Segments:
    """A 3D Slicer segmentation.

    Attributes:
        layers: (layer, i, j, k) integers.
        segments: what the values mean; segments may overlap when their layers differ.
        geometry: the grid of each layer. Slicer may store no more of it than the segments
            fill: voxels outside are in no segment.
        faults: what was odd and harmless.
    """

    layers: Array
    segments: tuple[Segment, ...]
    geometry: Geometry
    faults: tuple[str, ...] = ()

    def mask(self, segment: Segment) -> Mask:
        """(i, j, k) bool mask of a segment."""
        mask: Mask = self.layers[segment.layer] == segment.value
        return mask


def is_segmentation(path: Path) -> bool:
    """Whether a NRRD file names the segments in it, as 3D Slicer's .seg.nrrd does.

    Raises:
        ImageError: If it is no NRRD file.
    """
    return "Segment0_ID" in read_fields(Path(path))[1]


def read_segments(path: Path) -> Segments:
    """Read a segmentation of 3D Slicer (.seg.nrrd).

    Raises:
        ImageError: If the file cannot be read, or its segments are not what the format says.
        GeometryError: If its place in space is in doubt.
    """
    header = read_nrrd_header(path)
    if header.dtype.kind not in "iu":
        raise ImageError(f"{path}: segments are stored as {header.dtype}, expected integers")
    source = header.keys.get("Segmentation_SourceRepresentation", "Binary labelmap")
    if source.lower() not in ("binary labelmap", "labelmap", "binarylabelmap"):
        raise ImageError(
            f"{path}: a segmentation that is no binary labelmap; save it as one in 3D Slicer"
        )
    if math.prod(header.geometry.shape) == 1:  # by the format: no segment has a voxel
        raise ImageError(f"{path}: a segmentation without any voxel, so nothing says whose it is")
    array, faults = read_voxels(header, str(path))
    layers = (
        array[np.newaxis] if header.list_axis is None else np.moveaxis(array, header.list_axis, 0)
    )
    segments = _segments(header.keys, len(layers), str(path))
    return Segments(layers, segments, header.geometry, header.faults + faults)


def _segments(keys: Mapping[str, str], n_layers: int, name: str) -> tuple[Segment, ...]:
    """The segments that the key/value pairs speak of.

    Raises:
        ImageError: If there is none, or one lies in a layer that is not there.
    """
    numbers = sorted({int(m[1]) for key in keys if (m := re.match(r"Segment(\d{1,5})_ID$", key))})
    segments = []
    for position, number in enumerate(numbers):
        prefix = f"Segment{number}_"
        try:
            # Files of Slicer before 4.11 name neither: then each segment is a layer of its own.
            layer = int(keys.get(f"{prefix}Layer", position if n_layers > 1 else 0))
            value = int(keys.get(f"{prefix}LabelValue", 1 if n_layers > 1 else position + 1))
        except ValueError:
            raise ImageError(f"{name}: segment {number} has no integer value or layer") from None
        if not 0 <= layer < n_layers or value == 0:
            raise ImageError(
                f"{name}: segment {number} is value {value} of layer {layer}; the file has "
                f"{n_layers} layers, and 0 is background"
            )
        codes = _terminology(keys.get(f"{prefix}Tags", ""))
        segments.append(Segment(number, keys.get(f"{prefix}Name", ""), value, layer, codes))
    if not segments:
        raise ImageError(f"{name}: it names no segments; give it as a label map")
    if len({(s.layer, s.value) for s in segments}) < len(segments):
        raise ImageError(f"{name}: two segments have one value in one layer")
    return tuple(segments)


def _terminology(tags: str) -> tuple[tuple[str, str], ...]:
    """(scheme, value) of category, type, modifier, region and region modifier."""
    entry = next((t for t in tags.split("|") if t.startswith("TerminologyEntry:")), "")
    parts = entry.partition(":")[2].split("~")
    if len(parts) < 7:
        return ()
    # Names of the two lists stand before the category and before the region.
    triplets = [p.split("^") for p in (*parts[1:4], *parts[5:7])]
    return tuple((t[0], t[1]) if len(t) > 1 else ("", "") for t in triplets)
