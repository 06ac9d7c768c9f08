"""Masks of a case, cut to where there is something, whatever they are stored in."""

from __future__ import annotations

import math

import numpy as np

from pantskit.core.geometry import Geometry
from pantskit.core.labels import LabelArray, Mask
from pantskit.core.labelsets import CaseLabels
from pantskit.core.labelvolumes import resample_nearest
from pantskit.core.volume import Volume
from pantskit.measure.boxes import Box, label_boxes
from pantskit.measure.packed import PackedMask, pack, pack_crop, pack_labels


class Segmentation:
    """The structures of one case, each cut to its box.

    A label map is read once and passed over once, for the boxes of all its labels; after
    that a structure costs no more than its own box. Structures that the map does not give
    back exactly come from their own files, cut while they are read, one at a time. What was
    read is kept with a bit a voxel, up to a quarter of a label map in all.
    """

    def __init__(self, labels: CaseLabels, *, onto: Geometry | None = None) -> None:
        """Prepare to read.

        Args:
            labels: of the case.
            onto: grid to bring masks onto, to the nearest voxel; their own when None.

        Raises:
            LabelError: If the label map holds values that nothing explains.
        """
        self.labels = labels
        self.structures = labels.structures()
        self.shape = (onto or labels.geometry).shape
        self._onto = onto
        self._map: LabelArray | None = None
        self._boxes: dict[int, Box] = {}
        self._kept: dict[str, PackedMask] = {}
        if not labels.mask_paths:
            self._read_map()

    def packed(self, structure: str) -> PackedMask:
        """An annotated structure with a bit a voxel."""
        mask = self._kept.get(structure)
        if mask is None:
            mask = self._pack(structure)
            self._keep(structure, mask)
        return mask

    def box(self, structure: str) -> Box | None:
        """The box around an annotated structure; None when it is empty."""
        return self.packed(structure).box

    def crop(self, structure: str, box: Box) -> Mask:
        """(i, j, k) bool of an annotated structure within a box."""
        return self.packed(structure).crop(box)

    def _pack(self, structure: str) -> PackedMask:
        ids = self.labels.ids_in_map(structure)
        if ids is not None and self._has_map():
            assert self._map is not None
            return pack_labels(self._map, ids, self._boxes)
        if ids is None and self._onto is None:
            crop = self.labels.mask_crop(structure)
            return pack_crop(crop.array, crop.start, self.shape)
        mask = self.labels.mask(structure)
        assert mask is not None, "only annotated structures are read"
        return pack(self._placed(Volume(mask, self.labels.geometry)).array)

    def _keep(self, structure: str, mask: PackedMask) -> None:
        self._kept[structure] = mask
        while sum(m.bits.nbytes for m in self._kept.values()) > math.prod(self.shape) // 4:
            del self._kept[next(iter(self._kept))]

    def _has_map(self) -> bool:
        """Whether the label map can be taken apart here; it is read when first asked for."""
        if self._map is None:
            self._read_map()
        return self._map is not None

    def _read_map(self) -> None:
        volume = self.labels.combined()
        # With ids above 255 (of maps that are no case of ours) the slow way has to do.
        if volume is None or volume.array.dtype != np.uint8:
            return
        self._map = self._placed(volume).array
        self._boxes = label_boxes(self._map)
        if not self.labels.mask_paths:
            values = list(label_boxes(volume.array)) if self._onto else list(self._boxes)
            self.labels.label_map_used().require_known(
                values, name=f"{self.labels.case_id}: {self.labels.map_path}"
            )
        self.labels.forget()  # it is here now

    def _placed(self, volume: Volume) -> Volume:
        return resample_nearest(volume, self._onto) if self._onto else volume
