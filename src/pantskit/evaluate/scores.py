"""The scores of one case: a row a structure and tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pantskit.core.geometry import Geometry
from pantskit.evaluate.segmentation import Segmentation
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.overlap import Confusion, confusion_of_packed
from pantskit.measure.surface import SurfaceDistances, surface_distances

Row = dict[str, Any]

SCORE_COLUMNS = (
    "case_id",
    "structure",
    "status",
    "tolerance_mm",
    "nsd_definition",
    "dsc",
    "iou",
    "nsd",
    "hd95_mm",
    "assd_mm",
    "sensitivity",
    "specificity",
    "precision",
    "reference_ml",
    "prediction_ml",
    "volume_error_ml",
    "volume_error_relative",
    "reference_voxels",
    "prediction_voxels",
    "nsd_ties",
)

# Statuses of a row.
SCORED = "scored"  # annotated and predicted; one of the two masks may be empty
BOTH_EMPTY = "both_empty"  # annotated as not there, and predicted so: no overlap to measure
ABSENT = "absent"  # not annotated in the reference: ignored
NOT_PREDICTED = "not_predicted"  # annotated, and no such structure in the prediction
MISSING_PREDICTION = "missing_prediction"  # annotated, and no prediction of the case
FAILED = "failed"  # annotated, and the prediction of the case cannot be used
WORST = (NOT_PREDICTED, MISSING_PREDICTION, FAILED)  # each counts as the worst score


def score_structures(
    truth: Segmentation, found: Segmentation, geometry: Geometry, config: EvaluateConfig
) -> Iterator[Row]:
    """Score every wanted structure of one case.

    Args:
        truth: the reference.
        found: the prediction, on the same grid.
        geometry: that grid.
        config: structures, tolerances and definition.

    Yields:
        Rows of the score table; see docs/metrics.md for each column.
    """
    for structure in config.wanted:
        if structure not in truth.structures:
            yield from _rows(truth, structure, ABSENT, config)
        elif structure not in found.structures:
            yield from worst_rows(truth, structure, NOT_PREDICTED, geometry, config)
        else:
            yield from _measured_rows(truth, found, structure, geometry, config)


def worst_rows(
    truth: Segmentation, structure: str, status: str, geometry: Geometry, config: EvaluateConfig
) -> Iterator[Row]:
    """The worst score of an annotated structure: DSC and NSD 0, distances the diagonal."""
    voxels = truth.packed(structure).voxels
    volume = {
        "reference_voxels": voxels,
        "reference_ml": voxels * geometry.voxel_volume_mm3 / 1000,
        "dsc": 0.0,
        "iou": 0.0,
        "sensitivity": 0.0 if voxels else None,
        "hd95_mm": diagonal_mm(geometry),
        "assd_mm": diagonal_mm(geometry),
    }
    for row in _rows(truth, structure, status, config):
        yield row | volume | {"nsd": 0.0}


def diagonal_mm(geometry: Geometry) -> float:
    """Length of the scan's diagonal: the worst that a distance can be."""
    return math.dist(
        (0, 0, 0), [n * s for n, s in zip(geometry.shape, geometry.spacing, strict=True)]
    )


def _measured_rows(
    truth: Segmentation,
    found: Segmentation,
    structure: str,
    geometry: Geometry,
    config: EvaluateConfig,
) -> Iterator[Row]:
    reference, prediction = truth.packed(structure), found.packed(structure)
    counts = confusion_of_packed(reference, prediction)
    if reference.box is None and prediction.box is None:
        for row in _rows(truth, structure, BOTH_EMPTY, config):
            yield row | _overlap(counts, geometry)
        return
    distances = surface_distances(
        reference,
        prediction,
        geometry.spacing,
        definition=config.definition,
        tolerances_mm=config.tolerances_mm,
    )
    overlap = _overlap(counts, geometry) | _distances(distances, geometry)
    strict = config.definition == "counted"
    rows = _rows(truth, structure, SCORED, config)
    for row, ties in zip(rows, distances.ties, strict=True):
        nsd = distances.nsd(row["tolerance_mm"], strict=strict)
        yield row | overlap | {"nsd": nsd, "nsd_ties": ties}


def _rows(
    truth: Segmentation, structure: str, status: str, config: EvaluateConfig
) -> Iterator[Row]:
    for tolerance in config.tolerances_mm:
        named: Row = {
            "case_id": truth.labels.case_id,
            "structure": structure,
            "status": status,
            "tolerance_mm": tolerance,
            "nsd_definition": config.definition,
        }
        yield dict.fromkeys(SCORE_COLUMNS) | named


def _overlap(counts: Confusion, geometry: Geometry) -> Row:
    to_ml = geometry.voxel_volume_mm3 / 1000
    too_many = counts.prediction - counts.reference
    return {
        "dsc": counts.dsc,
        "iou": counts.iou,
        "sensitivity": counts.sensitivity,
        "specificity": counts.specificity,
        "precision": counts.precision,
        "reference_ml": counts.reference * to_ml,
        "prediction_ml": counts.prediction * to_ml,
        "volume_error_ml": too_many * to_ml,
        "volume_error_relative": too_many / counts.reference if counts.reference else None,
        "reference_voxels": counts.reference,
        "prediction_voxels": counts.prediction,
    }


def _distances(distances: SurfaceDistances, geometry: Geometry) -> Row:
    """HD95 and ASSD; where one mask is empty there is no distance, and the diagonal stands."""
    hd95 = distances.hausdorff(95)
    if not math.isfinite(hd95):
        return dict.fromkeys(("hd95_mm", "assd_mm"), diagonal_mm(geometry))
    return {"hd95_mm": hd95, "assd_mm": sum(distances.averages()) / 2}
