"""Masks of a case, cut to where there is something, whatever they are stored in."""

from __future__ import annotations

import numpy as np

from pantskit.core.geometry import Geometry
from pantskit.core.labels import Mask
from pantskit.core.labelsets import CaseLabels
from pantskit.core.volume import Volume, resample_nearest
from pantskit.measure.boxes import Box, join, label_boxes, union_box


class Segmentation:
    """The structures of one case as crops of its grid.

    A label map is read once and passed over once, for the boxes of all its labels; after
    that a structure costs no more than its own box. Separate masks are read one at a time.
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
        self._onto = onto
        self._map: Volume | None = None
        self._mask: tuple[str, Mask, Box | None] | None = None
        volume = None if labels.mask_paths else labels.combined()
        if volume is not None and volume.array.dtype == np.uint8:
            self._map = self._placed(volume)
            self._boxes = label_boxes(self._map.array)
            values = list(label_boxes(volume.array)) if onto else list(self._boxes)
            label_map = labels.label_map_used()
            label_map.require_known(values, name=f"{labels.case_id}: {labels.map_path}")

    def box(self, structure: str) -> Box | None:
        """The box around an annotated structure; None when it is empty."""
        if self._map is None:
            return self._read(structure)[2]
        boxes = [self._boxes.get(i) for i in self.labels.label_map_used().ids_of(structure)]
        return join(*boxes)

    def crop(self, structure: str, box: Box) -> Mask:
        """(i, j, k) bool of an annotated structure within a box."""
        if self._map is None:
            return self._read(structure)[1][box]
        table = np.zeros(256, np.bool_)
        table[[i for i in self.labels.label_map_used().ids_of(structure) if i < 256]] = True
        mask: Mask = table[self._map.array[box]]
        return mask

    def _read(self, structure: str) -> tuple[str, Mask, Box | None]:
        if self._mask is None or self._mask[0] != structure:
            mask = self.labels.mask(structure)
            assert mask is not None, "only annotated structures are read"
            placed: Mask = self._placed(Volume(mask, self.labels.geometry)).array
            self._mask = structure, placed, union_box(placed)
        return self._mask

    def _placed(self, volume: Volume) -> Volume:
        return resample_nearest(volume, self._onto) if self._onto else volume
