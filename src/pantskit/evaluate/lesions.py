"""Lesions of one case: which of the reference's were found, and what was found besides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION
from pantskit.evaluate.segmentation import Segmentation
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.measure.boxes import Box, within
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
    "picai_found_by",
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
    "probability",
    "false_positive",
    "picai_false_positive",
    "best_iou",
)
PARTS = ("pancreas_head", "pancreas_body", "pancreas_tail")

# picai_eval's rule, by which PI-CAI and PANORAMA rank: apart from the rule of T-Sen.
PICAI_IOU = 0.1


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
    """The lesions of one side: (i, j, k) numbers from 1 in their box of the scan, and each one."""

    numbers: NDArray[np.uint32]
    parts: list[Component]
    box: Box

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
        probability: (i, j, k) tumour probability, of which each candidate gets the largest in
            it; None without.
    """
    annotated = LESION in truth.structures
    predicted = found is not None and LESION in found.structures
    result = LesionResult(case=_nothing(annotated, predicted))
    lesions = _components(truth if annotated else None, geometry)
    candidates = _components(found if predicted else None, geometry)
    if not lesions.parts and not candidates.parts:
        return result
    shared = _shared(lesions, candidates)
    matching = _match(shared, lesions, candidates, config)
    iou = overlaps(shared, lesions.sizes, candidates.sizes, "iou")
    picai = match_lesions(iou, "iou", PICAI_IOU)
    dice = overlaps(shared, lesions.sizes, candidates.sizes, "dice")
    chances = _largest(candidates, probability)
    locations = _locations(truth, lesions, geometry)
    case_id = truth.labels.case_id
    for n, lesion in enumerate(lesions.parts):
        row = {"case_id": case_id, "lesion": lesion.index} | _described(lesion)
        result.lesions.append(
            row
            | {
                "location": locations[n],
                "hit": matching.found_by[n] >= 0,
                "found_by": matching.found_by[n] + 1,
                "overlap": matching.overlap[n],
                "overlap_fraction": float(shared[n].sum() / lesion.voxels),
                "best_dsc": float(dice[n].max(initial=0.0)),
                "best_iou": float(iou[n].max(initial=0.0)),
                "picai_found_by": picai.found_by[n] + 1,
            }
        )
    false, picai_false = {*matching.false_positives}, {*picai.false_positives}
    for n, candidate in enumerate(candidates.parts):
        row = {"case_id": case_id, "candidate": candidate.index} | _described(candidate)
        result.candidates.append(
            row
            | {
                "probability": chances[n],
                "false_positive": n in false if annotated else None,
                "picai_false_positive": n in picai_false if annotated else None,
                "best_iou": float(iou[:, n].max(initial=0.0)) if annotated else None,
            }
        )
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


def _components(side: Segmentation | None, geometry: Geometry) -> _Side:
    box = None if side is None else side.box(LESION)
    if side is None or box is None:
        nowhere = slice(0, 0)
        return _Side(np.zeros((0, 0, 0), np.uint32), [], (nowhere, nowhere, nowhere))
    corner = [s.start for s in box]
    return _Side(*components(side.crop(LESION, box), geometry.affine, corner=corner), box)


def _shared(lesions: _Side, candidates: _Side) -> NDArray[np.int64]:
    """(lesions, candidates) voxels in common."""
    common = np.zeros((len(lesions.parts) + 1, len(candidates.parts) + 1), dtype=np.int64)
    first = lesions.numbers[within(lesions.box, candidates.box)]
    second = candidates.numbers[within(candidates.box, lesions.box)]
    both = (first > 0) & (second > 0)
    np.add.at(common, (first[both], second[both]), 1)
    return common[1:, 1:]


def _match(
    shared: NDArray[np.int64],
    lesions: _Side,
    candidates: _Side,
    config: EvaluateConfig,
) -> Matching:
    centre_in = np.array([_lesion_at(lesions, c) for c in candidates.parts], dtype=np.int64)
    overlap = overlaps(
        shared, lesions.sizes, candidates.sizes, config.hit_rule, centre_in=centre_in
    )
    return match_lesions(overlap, config.hit_rule, config.least_overlap)


def _lesion_at(lesions: _Side, candidate: Component) -> int:
    """The lesion that holds the voxel nearest to a candidate's centroid, from 0; -1 if none."""
    place = tuple(math.floor(c + 0.5) for c in candidate.centroid)
    if not all(s.start <= p < s.stop for p, s in zip(place, lesions.box, strict=True)):
        return -1
    own = tuple(p - s.start for p, s in zip(place, lesions.box, strict=True))
    return int(lesions.numbers[own]) - 1


def _largest(candidates: _Side, probability: NDArray[np.float32] | None) -> Sequence[float | None]:
    """The largest probability in each candidate."""
    if probability is None:
        return [None] * len(candidates.parts)
    crop = probability[candidates.box]
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


def _locations(truth: Segmentation, lesions: _Side, geometry: Geometry) -> list[str | None]:
    """Head, body or tail of each lesion: the part that holds most of it, else the nearest one.

    In a label map a lesion is painted over its part, so that none holds any of it.
    """
    parts = [p for p in PARTS if p in truth.structures and truth.box(p) is not None]
    if not parts or not lesions.parts:
        return [None] * len(lesions.parts)
    many = len(lesions.parts) + 1
    held = np.array(
        [
            np.bincount(lesions.numbers[truth.crop(p, lesions.box)], minlength=many)[1:]
            for p in parts
        ]
    )
    best = held.argmax(axis=0)
    outside = np.flatnonzero(held.max(axis=0) == 0)
    if outside.size:
        centres = np.array([lesions.parts[n].centroid for n in outside])
        away = np.array([_distances_mm(truth, part, centres, geometry) for part in parts])
        best[outside] = away.argmin(axis=0)
    return [parts[n].removeprefix("pancreas_") for n in best]


def _distances_mm(
    truth: Segmentation, part: str, centres: NDArray[np.float64], geometry: Geometry
) -> list[float]:
    """From each centre, in voxels of the scan, to the nearest voxel of a part that is there."""
    box = truth.box(part)
    assert box is not None
    voxels = np.argwhere(truth.crop(part, box)) + np.array([s.start for s in box])
    steps = geometry.affine[:3, :3].T
    return [float((((voxels - c) @ steps) ** 2).sum(axis=1).min() ** 0.5) for c in centres]
