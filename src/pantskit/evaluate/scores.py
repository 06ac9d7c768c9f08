"""The scores of one case: a row a structure and tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from pantskit.core.geometry import Geometry
from pantskit.evaluate.segmentation import Segmentation
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.overlap import Confusion, confusion_of_packed
from pantskit.measure.packed import PackedMask, unite
from pantskit.measure.surface import surface_distances

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
    truth: Segmentation,
    found: Segmentation | None,
    geometry: Geometry,
    config: EvaluateConfig,
    *,
    unscored: str = MISSING_PREDICTION,
) -> Iterator[Row]:
    """Score every structure and union that is asked for, in one case.

    A union is annotated where all its structures are. Of its prediction, structures that are
    not predicted are missing; where none is, it is not predicted.

    Args:
        truth: the reference.
        found: the prediction, on the same grid; None where there is none to score.
        geometry: that grid.
        config: structures, unions, tolerances and definition.
        unscored: status of what is annotated where `found` is None.

    Yields:
        Rows of the score table; see docs/metrics.md for each column.
    """
    for name, members in config.targets.items():
        if not all(m in truth.structures for m in members):
            yield from _rows(truth, name, ABSENT, config)
            continue
        reference = unite(truth.packed(m) for m in members)
        predicted = [m for m in members if found is not None and m in found.structures]
        if found is None or not predicted:
            status = unscored if found is None else NOT_PREDICTED
            worst = _worst(reference, geometry)
            for row in _rows(truth, name, status, config):
                yield row | worst
            continue
        prediction = unite(found.packed(m) for m in predicted)
        both_empty = reference.box is None and prediction.box is None
        rows = list(_rows(truth, name, BOTH_EMPTY if both_empty else SCORED, config))
        overlap = _overlap(confusion_of_packed(reference, prediction), geometry)
        surfaces: Iterable[Row] = [{}] * len(rows)
        if not both_empty:
            surfaces = _surfaces(reference, prediction, geometry, config)
        for row, surface in zip(rows, surfaces, strict=True):
            yield row | overlap | surface


def _worst(reference: PackedMask, geometry: Geometry) -> Row:
    """The worst score of an annotated structure: DSC and NSD 0, distances the diagonal."""
    voxels = reference.voxels
    return {
        "reference_voxels": voxels,
        "reference_ml": voxels * geometry.voxel_volume_mm3 / 1000,
        "dsc": 0.0,
        "iou": 0.0,
        "nsd": 0.0,
        "sensitivity": 0.0 if voxels else None,
        "hd95_mm": diagonal_mm(geometry),
        "assd_mm": diagonal_mm(geometry),
    }


def diagonal_mm(geometry: Geometry) -> float:
    """Length of the scan's diagonal: the worst that a distance can be."""
    return math.dist(
        (0, 0, 0), [n * s for n, s in zip(geometry.shape, geometry.spacing, strict=True)]
    )


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


def _surfaces(
    reference: PackedMask, prediction: PackedMask, geometry: Geometry, config: EvaluateConfig
) -> Iterator[Row]:
    """Scores of the surfaces, a row a tolerance; one of the masks may be empty.

    Where it is there is no distance, and the diagonal stands.
    """
    distances = surface_distances(
        reference,
        prediction,
        geometry.spacing,
        definition=config.definition,
        tolerances_mm=config.tolerances_mm,
    )
    hd95 = distances.hausdorff(95)
    assd = sum(distances.averages()) / 2
    if not math.isfinite(hd95):
        hd95 = assd = diagonal_mm(geometry)
    strict = config.definition == "counted"
    for tolerance, ties in zip(config.tolerances_mm, distances.ties, strict=True):
        nsd = distances.nsd(tolerance, strict=strict)
        yield {"hd95_mm": hd95, "assd_mm": assd, "nsd": nsd, "nsd_ties": ties}
