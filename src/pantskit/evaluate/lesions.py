"""Lesions of one case: which of the reference's were found, and what was found besides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, Mask
from pantskit.evaluate.segmentation import Segmentation
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.boxes import Box, join
from pantskit.measure.components import Component, components
from pantskit.measure.matching import Matching, match_lesions, overlaps

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
    "location",
    "hit",
    "found_by",
    "overlap",
    "overlap_fraction",
    "best_dsc",
    "best_iou",
    "picai_hit",
    "picai_confidence",
)
CANDIDATE_COLUMNS = (
    "case_id",
    "candidate",
    "volume_mm3",
    "voxels",
    "longest_axis_mm",
    "x_mm",
    "y_mm",
    "z_mm",
    "confidence",
    "confidence_is",
    "false_positive",
    "picai_false_positive",
    "best_iou",
)
PARTS = ("pancreas_head", "pancreas_body", "pancreas_tail")

# picai_eval's rule, by which PI-CAI and PANORAMA rank: apart from the rule of T-Sen.
PICAI_IOU = 0.1

CONFIDENCES = ("its volume in mm3", "the largest tumour probability in it")


@dataclass
class LesionResult:
    """What was found of the lesions of one case.

    Attributes:
        lesions: a row each of the reference's, largest first.
        candidates: a row each of the prediction's.
        case: for the case's row: tumour volumes (None: not annotated or not predicted),
            numbers of lesions, of predicted ones and of false positives, the largest lesion.
    """

    lesions: list[Row] = field(default_factory=list)
    candidates: list[Row] = field(default_factory=list)
    case: Row = field(default_factory=dict)


@dataclass(frozen=True)
class _Side:
    """The lesions of one side: (i, j, k) numbers from 1 in a box of the scan, and each one."""

    numbers: NDArray[np.uint32]
    parts: list[Component]

    @property
    def sizes(self) -> NDArray[np.int64]:
        return np.array([p.voxels for p in self.parts], dtype=np.int64)


def score_lesions(
    truth: Segmentation,
    found: Segmentation | None,
    geometry: Geometry,
    config: EvaluateConfig,
    *,
    probability: NDArray[np.float32] | None = None,
) -> LesionResult:
    """The reference's lesions and the prediction's, matched.

    Args:
        truth: the reference; without tumour annotation it has no lesions.
        found: the prediction; None, or without tumour, finds nothing.
        geometry: the grid of both.
        config: the rule by which a lesion counts as found.
        probability: (i, j, k) tumour probability: a candidate's confidence is the largest in
            it. Without, its volume in mm3 is.
    """
    annotated = LESION in truth.structures
    predicted = found is not None and LESION in found.structures
    result = LesionResult(case=_nothing(annotated, predicted))
    boxes = [s.box(LESION) for s in (truth, found) if s is not None and LESION in s.structures]
    box = join(*boxes)
    if box is None:
        return result
    lesions = _components(truth if annotated else None, box, geometry)
    candidates = _components(found if predicted else None, box, geometry)
    shared = _shared(lesions, candidates)
    matching = _match(shared, lesions, candidates, config, box)
    iou = overlaps(shared, lesions.sizes, candidates.sizes, "iou")
    picai = match_lesions(iou, "iou", PICAI_IOU)
    confidence = _confidences(candidates, box, probability)
    case_id = truth.labels.case_id
    for n, lesion in enumerate(lesions.parts):
        row = {"case_id": case_id, "lesion": lesion.index} | _described(lesion)
        row |= {"location": _location(truth, lesions.numbers == lesion.index, box, geometry)}
        row |= _found(n, shared, lesions.sizes, candidates.sizes, iou, matching)
        by = picai.found_by[n]
        row |= {"picai_hit": by >= 0, "picai_confidence": confidence[by] if by >= 0 else None}
        result.lesions.append(row)
    for n, candidate in enumerate(candidates.parts):
        row = {"case_id": case_id, "candidate": candidate.index} | _described(candidate)
        row |= {
            "confidence": confidence[n],
            "confidence_is": CONFIDENCES[probability is not None],
            "false_positive": n in matching.false_positives if annotated else None,
            "picai_false_positive": n in picai.false_positives if annotated else None,
            "best_iou": float(iou[:, n].max(initial=0.0)),
        }
        result.candidates.append(row)
    result.case |= _totals(result, annotated, predicted)
    return result


def _nothing(annotated: bool, predicted: bool) -> Row:
    return {
        "tumor_volume_mm3_reference": 0.0 if annotated else None,
        "tumor_volume_mm3_prediction": 0.0 if predicted else None,
        "lesions_reference": 0 if annotated else None,
        "lesions_prediction": 0 if predicted else None,
        "false_positive_lesions": 0 if annotated and predicted else None,
        "largest_lesion_mm": None,
        "location": None,
    }


def _totals(result: LesionResult, annotated: bool, predicted: bool) -> Row:
    totals: Row = {}
    if annotated:
        totals["tumor_volume_mm3_reference"] = _sum(result.lesions, "volume_mm3")
        totals["lesions_reference"] = len(result.lesions)
    if predicted:
        totals["tumor_volume_mm3_prediction"] = _sum(result.candidates, "volume_mm3")
        totals["lesions_prediction"] = len(result.candidates)
    if annotated and predicted:
        totals["false_positive_lesions"] = int(_sum(result.candidates, "false_positive"))
    if result.lesions:
        largest = max(result.lesions, key=lambda row: row["longest_axis_mm"])
        totals["largest_lesion_mm"] = largest["longest_axis_mm"]
        totals["location"] = largest["location"]
    return totals


def _sum(rows: list[Row], column: str) -> float:
    return float(sum(row[column] for row in rows))


def _components(side: Segmentation | None, box: Box, geometry: Geometry) -> _Side:
    shape = [s.stop - s.start for s in box]
    mask = np.zeros(shape, np.bool_, order="F") if side is None else side.crop(LESION, box)
    return _Side(*components(mask, geometry.affine, corner=[s.start for s in box]))


def _shared(lesions: _Side, candidates: _Side) -> NDArray[np.int64]:
    """(lesions, candidates) voxels in common."""
    common = np.zeros((len(lesions.parts) + 1, len(candidates.parts) + 1), dtype=np.int64)
    both = (lesions.numbers > 0) & (candidates.numbers > 0)
    np.add.at(common, (lesions.numbers[both], candidates.numbers[both]), 1)
    return common[1:, 1:]


def _match(
    shared: NDArray[np.int64],
    lesions: _Side,
    candidates: _Side,
    config: EvaluateConfig,
    box: Box,
) -> Matching:
    centre_in = np.array([_lesion_at(lesions, c, box) for c in candidates.parts], dtype=np.int64)
    overlap = overlaps(
        shared, lesions.sizes, candidates.sizes, config.hit_rule, centre_in=centre_in
    )
    return match_lesions(overlap, config.hit_rule, config.least_overlap)


def _lesion_at(lesions: _Side, candidate: Component, box: Box) -> int:
    """The lesion that holds the voxel nearest to a candidate's centroid, from 0; -1 if none."""
    place = tuple(round(c) - s.start for c, s in zip(candidate.centroid, box, strict=True))
    return int(lesions.numbers[place]) - 1


def _confidences(
    candidates: _Side, box: Box, probability: NDArray[np.float32] | None
) -> list[float]:
    if probability is None:
        return [c.volume_mm3 for c in candidates.parts]
    crop = probability[box]
    return [
        float(crop[c.box][candidates.numbers[c.box] == c.index].max()) for c in candidates.parts
    ]


def _described(part: Component) -> Row:
    x, y, z = part.centroid_mm
    return {
        "volume_mm3": part.volume_mm3,
        "voxels": part.voxels,
        "longest_axis_mm": part.longest_axis_mm,
        "x_mm": x,
        "y_mm": y,
        "z_mm": z,
    }


def _found(
    n: int,
    shared: NDArray[np.int64],
    sizes: NDArray[np.int64],
    candidate_sizes: NDArray[np.int64],
    iou: NDArray[np.float64],
    matching: Matching,
) -> Row:
    dice = overlaps(shared, sizes, candidate_sizes, "dice")[n]
    return {
        "hit": matching.found_by[n] >= 0,
        "found_by": matching.found_by[n] + 1,
        "overlap": matching.overlap[n],
        "overlap_fraction": float(shared[n].sum() / sizes[n]),
        "best_dsc": float(dice.max(initial=0.0)),
        "best_iou": float(iou[n].max(initial=0.0)),
    }


def _location(truth: Segmentation, lesion: Mask, box: Box, geometry: Geometry) -> str | None:
    """Head, body or tail: the part that holds most of the lesion, else the nearest one.

    In a label map a lesion is painted over its part, so that none holds any of it.
    """
    parts = [p for p in PARTS if p in truth.structures and truth.box(p) is not None]
    if not parts:
        return None
    held = {part: int((truth.crop(part, box) & lesion).sum()) for part in parts}
    part = max(held, key=lambda name: held[name])
    if held[part]:
        return part.removeprefix("pancreas_")
    corner = np.array([s.start for s in box])
    centre = np.argwhere(lesion).mean(axis=0) + corner
    away = {part: _distance_mm(truth, part, centre, geometry) for part in parts}
    return min(away, key=lambda name: away[name]).removeprefix("pancreas_")


def _distance_mm(
    truth: Segmentation, part: str, centre: NDArray[np.float64], geometry: Geometry
) -> float:
    box = truth.box(part)
    assert box is not None
    voxels = np.argwhere(truth.crop(part, box)) + np.array([s.start for s in box])
    return float((((voxels - centre) * geometry.spacing) ** 2).sum(axis=1).min() ** 0.5)
