"""How many voxels two segmentations share, and the ratios made of those counts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.compiled import compiled
from pantskit.measure.packed import PackedMask, shared_voxels

Mask = NDArray[np.bool_]
LabelArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Confusion:
    """Voxel counts of a reference mask against a predicted one."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def reference(self) -> int:
        """Voxels of the reference."""
        return self.true_positive + self.false_negative

    @property
    def prediction(self) -> int:
        """Voxels of the prediction."""
        return self.true_positive + self.false_positive

    @property
    def dsc(self) -> float:
        """Dice similarity coefficient, 2 |R and P| / (|R| + |P|), or NaN when both are empty.

        A normal scan called normal has no overlap to measure; it counts in specificity
        instead. Source: PanTS (Li et al., NeurIPS 2025), appendix B.4.1; NaN as nnU-Net and
        DeepMind's surface-distance.
        """
        return _ratio(2 * self.true_positive, self.reference + self.prediction)

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard), or NaN when both masks are empty."""
        union = self.true_positive + self.false_positive + self.false_negative
        return _ratio(self.true_positive, union)

    @property
    def sensitivity(self) -> float:
        """Share of the reference's voxels that were predicted; NaN for an empty reference."""
        return _ratio(self.true_positive, self.reference)

    @property
    def specificity(self) -> float:
        """Share of voxels outside the reference left alone; NaN when nothing is outside."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> float:
        """Share of predicted voxels that lie in the reference; NaN for an empty prediction."""
        return _ratio(self.true_positive, self.prediction)


def confusion(reference: Mask, prediction: Mask, *, voxels: int | None = None) -> Confusion:
    """Count the voxels of two masks on one grid.

    Args:
        reference: bool, any shape; the annotation.
        prediction: bool, the same shape.
        voxels: voxels of the whole scan, where the masks are a crop outside of which both
            are empty; they make the true negatives.

    Raises:
        ValueError: If the shapes differ.
    """
    require_one_shape(reference, prediction)
    in_reference = int(np.count_nonzero(reference))
    in_prediction = int(np.count_nonzero(prediction))
    both = int(np.count_nonzero(reference & prediction))
    return _from_totals(both, in_reference, in_prediction, voxels or reference.size)


def confusion_of_packed(reference: PackedMask, prediction: PackedMask) -> Confusion:
    """Count the voxels of two masks of one grid, as `confusion` does.

    Raises:
        ValueError: If the shapes of their grids differ.
    """
    require_one_shape(reference, prediction)
    both = shared_voxels(reference, prediction)
    size = math.prod(reference.shape)
    return _from_totals(both, reference.voxels, prediction.voxels, size)


def joint_counts(reference: LabelArray, prediction: LabelArray) -> NDArray[np.int64]:
    """How often each pair of label values meets, in one pass over both maps.

    Args:
        reference: uint8 label map, any shape.
        prediction: uint8 label map of the same shape and memory order.

    Returns:
        (256, 256) counts; row = reference value, column = predicted value.

    Raises:
        ValueError: If the shapes differ.
    """
    require_one_shape(reference, prediction)
    if reference.flags.f_contiguous and prediction.flags.f_contiguous:
        reference, prediction = reference.T, prediction.T
    a = np.ascontiguousarray(reference, dtype=np.uint8).reshape(-1)
    b = np.ascontiguousarray(prediction, dtype=np.uint8).reshape(-1)
    whole = a.size - a.size % 8
    counts = np.zeros((256, 256), dtype=np.int64)
    _count_words(a[:whole].view(np.uint64), b[:whole].view(np.uint64), counts)
    np.add.at(counts, (a[whole:], b[whole:]), 1)
    return counts


def confusion_of(
    counts: NDArray[np.int64], reference_ids: Iterable[int], prediction_ids: Iterable[int]
) -> Confusion:
    """The counts of one structure, or of a union of labels, from `joint_counts`.

    Args:
        counts: (256, 256) from `joint_counts`.
        reference_ids: label values whose union is the structure in the reference.
        prediction_ids: label values whose union is the structure in the prediction.
    """
    rows, columns = list(reference_ids), list(prediction_ids)
    both = int(counts[np.ix_(rows, columns)].sum())
    return _from_totals(
        both, int(counts[rows].sum()), int(counts[:, columns].sum()), int(counts.sum())
    )


def _from_totals(both: int, reference: int, prediction: int, size: int) -> Confusion:
    return Confusion(
        true_positive=both,
        false_positive=prediction - both,
        false_negative=reference - both,
        true_negative=size - reference - prediction + both,
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def require_one_shape(
    reference: NDArray[Any] | PackedMask, prediction: NDArray[Any] | PackedMask
) -> None:
    """Refuse arrays that cannot lie on one grid."""
    if reference.shape != prediction.shape:
        raise ValueError(
            f"reference {reference.shape} and prediction {prediction.shape} differ in shape"
        )


@compiled
def _count_words(a: NDArray[np.uint64], b: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
    """Add the eight label pairs of every pair of words to `counts`.

    Most words hold one value on both sides, and the same pair as the word before: those are
    counted as runs, without taking the word apart.
    """
    ones = np.uint64(0x0101010101010101)
    byte = np.uint64(255)
    eight = np.uint64(8)
    run_a, run_b, run = np.uint64(0), np.uint64(0), 0
    for n in range(a.size):
        x, y = a[n], b[n]
        if x == run_a and y == run_b:
            run += 1
            continue
        if x == (x & byte) * ones and y == (y & byte) * ones:
            counts[run_a & byte, run_b & byte] += 8 * run
            run_a, run_b, run = x, y, 1
            continue
        for _ in range(8):
            counts[x & byte, y & byte] += 1
            x >>= eight
            y >>= eight
    counts[run_a & byte, run_b & byte] += 8 * run
