"""Which predicted lesion belongs to which annotated one.

No public source gives the rule behind the benchmark's tumour sensitivity, so several are
offered, each with a name that goes beside every number made by it:

- `"touch"`: any voxel in common; a candidate may find several lesions.
- `"iou"`, `"dice"`: of lesion and candidate; at least a minimum (picai_eval: IoU 0.1).
- `"overlap"`: share of the lesion's voxels that the candidate holds; at least a minimum.
- `"centre"`: the voxel nearest to the candidate's centroid lies in the lesion.

But for `"touch"`, a candidate stands for one lesion: pairs are chosen so that as many lesions
as possible are found, and among such choices the one with the greatest sum of overlaps
(picai_eval, used by the PI-CAI and PANORAMA challenges).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Rule = Literal["touch", "iou", "dice", "overlap", "centre"]
RULES: tuple[Rule, ...] = get_args(Rule)

# The least overlap that counts, where nothing else is asked for: picai_eval's for IoU.
DEFAULT_MINIMUM: dict[Rule, float] = {
    "touch": 0.0,
    "iou": 0.1,
    "dice": 0.1,
    "overlap": 0.1,
    "centre": 0.0,
}


@dataclass(frozen=True)
class Matching:
    """Lesions and candidates of one case, side by side; both counted from 0.

    Attributes:
        found_by: for each lesion the candidate that found it, or -1.
        overlap: for each lesion its overlap with that candidate by the rule, 0 where missed.
        false_positives: candidates that overlap no lesion enough. A candidate that does, but
            whose lesion went to another one, is neither right nor wrong.
    """

    found_by: tuple[int, ...]
    overlap: tuple[float, ...]
    false_positives: tuple[int, ...]


def overlaps(
    shared: NDArray[np.int64],
    lesion_voxels: NDArray[np.int64],
    candidate_voxels: NDArray[np.int64],
    rule: Rule,
    *,
    centre_in: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """How much each lesion and each candidate overlap, by a rule.

    Args:
        shared: (lesions, candidates) voxels in common.
        lesion_voxels: (lesions,) sizes.
        candidate_voxels: (candidates,) sizes.
        rule: see the module.
        centre_in: (candidates,) lesion that holds the candidate's centre, or -1; for
            `"centre"`.

    Returns:
        (lesions, candidates) in [0, 1].

    Raises:
        ValueError: If the rule is unknown.
    """
    sizes = lesion_voxels[:, None], candidate_voxels[None, :]
    if rule == "touch":
        return (shared > 0).astype(np.float64)
    if rule == "iou":
        return np.asarray(shared / np.maximum(sizes[0] + sizes[1] - shared, 1))
    if rule == "dice":
        return np.asarray(2 * shared / np.maximum(sizes[0] + sizes[1], 1))
    if rule == "overlap":
        return np.asarray(shared / np.maximum(sizes[0], 1))
    if rule == "centre":
        assert centre_in is not None, "the rule needs the candidates' centres"
        hits = np.arange(len(lesion_voxels))[:, None] == centre_in[None, :]
        return np.asarray(hits, np.float64)
    raise ValueError(f"unknown matching rule {rule!r}; known: {', '.join(RULES)}")


def match_lesions(overlap: NDArray[np.float64], rule: Rule, minimum: float) -> Matching:
    """Give candidates to lesions.

    Args:
        overlap: (lesions, candidates) from `overlaps`.
        rule: see the module.
        minimum: overlap that counts; 0 asks for any at all.

    Returns:
        The matching; every lesion missed where there is no candidate.

    Source: picai_eval 1.4 (DIAGNijmegen), `evaluate_case`, for all rules but `"touch"`.
    """
    lesions, candidates = overlap.shape
    enough = (overlap > 0) & (overlap >= minimum)
    false_positives = tuple(np.flatnonzero(~enough.any(axis=0)).tolist())
    found_by = [-1] * lesions
    if rule == "touch":
        for lesion in np.flatnonzero(enough.any(axis=1)):
            found_by[lesion] = int(np.argmax(enough[lesion]))
    elif enough.any():
        from scipy.optimize import linear_sum_assignment

        # One for each pair outweighs what overlaps, which sum to less than their number.
        worth = np.where(enough, 1 + overlap / (1 + min(lesions, candidates)), 0.0)
        for lesion, candidate in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
            if enough[lesion, candidate]:
                found_by[lesion] = int(candidate)
    shares = [0.0 if c < 0 else float(overlap[n, c]) for n, c in enumerate(found_by)]
    return Matching(tuple(found_by), tuple(shares), false_positives)
