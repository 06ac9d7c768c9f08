"""Lesions of one case: which of the reference's were found, and what was found besides."""

from __future__ import annotations

from typing import Any

import numpy as np

from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, Mask
from pantskit.evaluate.segmentation import Segmentation
from pantskit.measure.boxes import join
from pantskit.measure.components import components

Row = dict[str, Any]

LESION_COLUMNS = (
    "case_id",
    "lesion",
    "volume_mm3",
    "voxels",
    "longest_axis_mm",
    "x_mm",
    "y_mm",
    "z_mm",
    "hit",
    "overlap_fraction",
    "best_dsc",
)

# No public source gives the benchmark's own rule, so this one is named beside every result.
HIT_RULE = "a predicted tumour voxel lies in the lesion"


def lesion_rows(
    truth: Segmentation, found: Segmentation | None, geometry: Geometry
) -> tuple[list[Row], dict[str, Any]]:
    """The reference's lesions, largest first, and what the prediction makes of them.

    Args:
        truth: the reference; without tumour annotation there are no rows.
        found: the prediction; None, or without tumour, hits nothing.
        geometry: the grid of both.

    Returns:
        Rows of lesions.csv; and, for the case's row, tumour volumes (None: not annotated or
        not predicted), numbers of lesions and of predicted ones that touch none.
    """
    annotated = LESION in truth.structures
    predicted = found is not None and LESION in found.structures
    boxes = [s.box(LESION) for s in (truth, found) if s is not None and LESION in s.structures]
    case: dict[str, Any] = {
        "tumor_volume_mm3_reference": 0.0 if annotated else None,
        "tumor_volume_mm3_prediction": 0.0 if predicted else None,
        "lesions_reference": 0 if annotated else None,
        "lesions_prediction": 0 if predicted else None,
        "false_positive_lesions": 0 if annotated and predicted else None,
    }
    box = join(*boxes)
    if box is None:
        return [], case
    empty = np.zeros([s.stop - s.start for s in box], np.bool_, order="F")
    reference = truth.crop(LESION, box) if annotated else empty
    prediction = found.crop(LESION, box) if found is not None and predicted else empty
    corner = [s.start for s in box]
    reference_parts, lesions = components(reference, geometry.affine, corner=corner)
    prediction_parts, candidates = components(prediction, geometry.affine, corner=corner)
    # (lesion, candidate) voxels in common; row and column 0 are outside of all.
    common = np.zeros((len(lesions) + 1, len(candidates) + 1), dtype=np.int64)
    either = (reference_parts > 0) | (prediction_parts > 0)
    np.add.at(common, (reference_parts[either], prediction_parts[either]), 1)
    if annotated:
        case["tumor_volume_mm3_reference"] = _volume_mm3(reference, geometry)
        case["lesions_reference"] = len(lesions)
    if predicted:
        case["tumor_volume_mm3_prediction"] = _volume_mm3(prediction, geometry)
        case["lesions_prediction"] = len(candidates)
    if annotated and predicted:
        case["false_positive_lesions"] = int((common[1:, 1:].sum(axis=0) == 0).sum())
    sizes = np.array([c.voxels for c in candidates])
    rows = []
    for lesion in lesions:
        shared = common[lesion.index, 1:]
        x, y, z = lesion.centroid_mm
        rows.append(
            {
                "case_id": truth.labels.case_id,
                "lesion": lesion.index,
                "volume_mm3": lesion.volume_mm3,
                "voxels": lesion.voxels,
                "longest_axis_mm": lesion.longest_axis_mm,
                "x_mm": x,
                "y_mm": y,
                "z_mm": z,
                "hit": bool(shared.any()),
                "overlap_fraction": float(shared.sum() / lesion.voxels),
                "best_dsc": float((2 * shared / (lesion.voxels + sizes)).max(initial=0.0)),
            }
        )
    return rows, case


def _volume_mm3(mask: Mask, geometry: Geometry) -> float:
    return int(np.count_nonzero(mask)) * geometry.voxel_volume_mm3
