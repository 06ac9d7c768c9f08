"""Which series of a study become cases: of one acquisition, the best of its reconstructions.

A scanner makes several series of what it measured once: thin and thick, for soft tissue and for
bone, axial and coronal. In a dataset they are the same anatomy again, and one of them is enough.
Another phase is another acquisition, and is taken too. What cannot be proved to be one
acquisition is not taken for one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ConfigError
from pantskit.ingest.discovery.kernels import kernel_class
from pantskit.ingest.discovery.kinds import is_virtual
from pantskit.ingest.discovery.outlook import is_whole
from pantskit.ingest.discovery.series import Series
from pantskit.ingest.facts.describe import phase_of

RULES = ("best", "study", "all")
PREFER = ("axial", "original", "soft", "thin", "slices")

# How much of the length and of the breadth of a series the one that takes its place must show.
# Reconstructions for lung and bone often have a somewhat larger field, with air at its edges.
_COVERED_LENGTH = 0.95
_COVERED_ACROSS = 0.85

# Slices count as axial up to this angle between their normal and the patient's long axis.
_AXIAL_DEGREES = 30.0

Box = NDArray[np.float64]


def choose(
    series: Iterable[Series],
    rule: str = "best",
    prefer: Sequence[str] = (),
    *,
    usable: Callable[[Series], bool] = is_whole,
    annotated: Callable[[Series], bool] = lambda series: False,
) -> list[Series]:
    """The series, those that are not to be taken with a reason in `skip`.

    Two series are reconstructions of one acquisition when patient, study and frame of reference
    are the same, neither acquisition numbers nor phases differ, the times of acquisition meet,
    and something in how they were reconstructed differs: two that are alike in it are two
    acquisitions whose times an export has lost. Of these, one that covers 95 % of another's
    length (and 85 % of its breadth) and ranks before it takes its place. A series that is not
    usable takes no place, and is left as it is unless one that ranks before it is taken.

    Args:
        series: all series found; those with a `skip` or `fault` stay as they are.
        rule: `"best"`: the best of each acquisition. `"study"`: the best of each study.
            `"all"`: every series in HU, reformats included.
        prefer: what makes one the best, the most important first, of `axial`, `original` (not
            derived, not of one photon energy), `soft`, `sharp` (kernels), `thin`, `thick`,
            `slices` (more of them); empty for axial, original, soft, thin, slices.
        usable: whether a series could become a case.
        annotated: whether annotations are known to be of a series: then it is taken, and ranks
            before all that are not, since they were drawn on its slices.

    Raises:
        ConfigError: If the rule or a word of `prefer` is unknown.
    """
    if rule not in RULES:
        raise ConfigError(f"series {rule!r} is unknown; it is one of {', '.join(RULES)}")
    prefer = tuple(prefer) or PREFER
    unknown = [word for word in prefer if word not in _CRITERIA]
    if unknown:
        raise ConfigError(
            f"prefer {unknown[0]!r} is unknown; it is one or more of {', '.join(_CRITERIA)}"
        )
    found = list(series)
    if rule == "all":
        return found
    groups: dict[Any, list[int]] = defaultdict(list)
    for n, one in enumerate(found):
        if one.reformat and not one.skip and not annotated(one):
            found[n] = replace(one, skip=one.reformat)
        elif not (one.skip or one.fault) and (key := _scan_of(one, rule)):
            groups[key].append(n)
    for numbers in groups.values():
        if len(numbers) < 2:
            continue
        candidates = [_Candidate(n, found[n], prefer, annotated(found[n])) for n in numbers]
        for number, reason in _passed_over(candidates, rule, usable):
            found[number] = replace(found[number], skip=reason)
    return found


def _scan_of(series: Series, rule: str) -> tuple[str, ...] | None:
    """What series must share to be compared, or None where the headers do not tell it."""
    first = series.first
    study = (first.description.get("PatientID", ""), first.study_uid)
    if not first.study_uid:
        return None
    if rule == "study":
        return study
    return (*study, first.frame_of_reference) if first.frame_of_reference else None


def _passed_over(
    candidates: Sequence[_Candidate], rule: str, usable: Callable[[Series], bool]
) -> list[tuple[int, str]]:
    """Numbers of the series that another takes the place of, and the reason."""
    taken: list[_Candidate] = []
    passed: list[tuple[int, str]] = []
    for one in sorted(candidates, key=lambda c: c.rank):
        if rule == "study":
            better = taken[0] if taken else None
        else:
            better = next((t for t in taken if t.takes_place_of(one)), None)
        if better and not one.annotated:
            what = (
                "series of this study" if rule == "study" else "reconstruction of this acquisition"
            )
            passed.append((one.number, f"another {what} is taken ({better.described})"))
        elif usable(one.series):
            taken.append(one)
    return passed


@dataclass(frozen=True)
class _Candidate:
    """A series with what decides about it.

    Attributes:
        number: its place among all series.
        series: the series.
        prefer: criteria, the most important first.
        annotated: whether annotations were drawn on it.
    """

    number: int
    series: Series
    prefer: tuple[str, ...]
    annotated: bool

    @cached_property
    def rank(self) -> tuple[Any, ...]:
        """The lower the better; of equals the order is the same in every run."""
        criteria = (_CRITERIA[word](self) for word in self.prefer)
        return (not self.annotated, *criteria, self.series.identity)

    def takes_place_of(self, other: _Candidate) -> bool:
        """Whether this shows all that the other does, and of the same acquisition."""
        return self._same_acquisition(other) and self._covers(other)

    @property
    def described(self) -> str:
        """For messages: `axial, 1 mm, soft kernel`; our words and measurements only."""
        plane = "axial" if self.axial else "not axial"
        kernel = kernel_class(self.series.first.kernel)
        words = [plane] if np.isinf(self.thickness) else [plane, f"{self.thickness:.3g} mm"]
        return ", ".join([*words, f"{kernel} kernel"] if kernel != "unknown" else words)

    @property
    def axial(self) -> bool:
        """Whether slices lie across the patient's long axis."""
        orientation = self.series.first.orientation
        assert orientation is not None
        normal = np.cross(orientation[:3], orientation[3:])
        length = float(np.linalg.norm(normal))
        return length > 0 and abs(normal[2]) / length >= np.cos(np.radians(_AXIAL_DEGREES))

    @property
    def original(self) -> int:
        """0 for what was measured, 1 for what was derived from it, 2 for one photon energy."""
        first = self.series.first
        if is_virtual(first):
            return 2
        return int(first.image_type[:2] != ("ORIGINAL", "PRIMARY"))

    @cached_property
    def thickness(self) -> float:
        """mm of a slice: SliceThickness, else the distance between slices; inf if unknown."""
        try:
            told = float(self.series.first.description.get("SliceThickness", ""))
        except ValueError:
            told = 0.0
        if 0 < told < np.inf:
            return round(told, 2)
        steps = np.diff(np.unique(np.round(self._positions @ self._normal, 2)))
        return float(round(np.median(steps), 2)) if len(steps) else np.inf

    @cached_property
    def _positions(self) -> Box:
        return np.array([s.position for s in self.series.slices], dtype=np.float64)

    @cached_property
    def _normal(self) -> Box:
        orientation = self.series.first.orientation
        assert orientation is not None
        return np.asarray(np.cross(orientation[:3], orientation[3:]))

    @cached_property
    def _box(self) -> Box:
        """(2, 3) lowest and highest LPS mm of the pixels of all slices, these taken as thin."""
        first, positions = self.series.first, self._positions
        assert first.orientation and first.pixel_spacing
        row = np.array(first.orientation[:3]) * first.pixel_spacing[1] * first.columns
        column = np.array(first.orientation[3:]) * first.pixel_spacing[0] * first.rows
        corners = np.array([0 * row, row, column, row + column])
        low = positions.min(axis=0) + corners.min(axis=0)
        return np.array([low, positions.max(axis=0) + corners.max(axis=0)])

    def _covers(self, other: _Candidate) -> bool:
        """Whether enough of the other's slices lies within this one's, as thick as they are."""
        deep = np.ptp(self._positions @ self._normal) / max(len(self._positions) - 1, 1)
        ends = np.abs(self._normal) * deep / 2
        low = np.maximum(self._box[0] - ends, other._box[0])
        shared = np.minimum(self._box[1] + ends, other._box[1]) - low
        needed = np.array([_COVERED_ACROSS, _COVERED_ACROSS, _COVERED_LENGTH])
        return bool((shared >= needed * (other._box[1] - other._box[0])).all())

    def _same_acquisition(self, other: _Candidate) -> bool:
        numbers = self._acquisitions, other._acquisitions
        phases = {phase_of(c.series.first.description) for c in (self, other)} - {None}
        if (all(numbers) and not numbers[0] & numbers[1]) or len(phases) > 1:
            return False
        if self._times is None or other._times is None:
            return False
        meet = self._times[0] <= other._times[1] and other._times[0] <= self._times[1]
        return meet and self._reconstruction != other._reconstruction

    @cached_property
    def _acquisitions(self) -> set[str]:
        return {s.acquisition for s in self.series.slices} - {""}

    @cached_property
    def _times(self) -> tuple[str, str] | None:
        """First and last time of acquisition; None where a slice has none to the second."""
        times = {s.acquired for s in self.series.slices}
        if any(len(t) < 14 or t[8:14] in ("", "000000") for t in times):
            return None
        return min(times), max(times)

    @property
    def _reconstruction(self) -> tuple[Any, ...]:
        """How the images were made from what was measured."""
        first = self.series.first
        grid = (first.rows, first.columns, first.pixel_spacing, first.orientation)
        return (first.kernel, self.thickness, first.image_type, is_virtual(first), *grid)


_CRITERIA: dict[str, Callable[[_Candidate], Any]] = {
    "axial": lambda c: not c.axial,
    "original": lambda c: c.original,
    "soft": lambda c: ("soft", "unknown", "sharp").index(kernel_class(c.series.first.kernel)),
    "sharp": lambda c: ("sharp", "unknown", "soft").index(kernel_class(c.series.first.kernel)),
    "thin": lambda c: c.thickness,
    "thick": lambda c: -c.thickness if np.isfinite(c.thickness) else np.inf,
    "slices": lambda c: -len(c.series.slices),
}
