"""The dataset as a whole: the same scan twice, patients on both sides, what stands out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from pantskit.check.cohort import SLICES_KEPT, Cohort, Measured
from pantskit.check.findings import Fault, Severity
from pantskit.check.registry import Limits, Scope, rule
from pantskit.core.dataset import IMAGE_NAME
from pantskit.core.labels import LESION, STRUCTURES

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


@rule(
    "image-missing",
    WARNING,
    Scope.DATASET,
    reason="Without the CT nothing can be said of what lies under the masks.",
)
def image_missing(cohort: Cohort, limits: Limits) -> Iterator[Fault]:
    """Each case has a CT; of a dataset of labels alone it is told once, as a remark."""
    without = [case for case in cohort.cases if not case.imaged]
    if len(without) > 1 and len(without) == len(cohort.cases):
        text = f"none of the {len(without)} cases has a CT: labels alone; content is not checked"
        yield Fault(text, value=len(without), severity=INFO)
        return
    for case in without:
        yield Fault(f"no {IMAGE_NAME}; content cannot be checked", case_id=case.case_id)


@rule(
    "duplicate-scan",
    ERROR,
    Scope.DATASET,
    reason="One scan under two IDs leaks from training into test and counts twice in every mean.",
    share=0.15,
    slices=2,
)
def duplicate_scan(cohort: Cohort, limits: Limits) -> Iterator[Fault]:
    """No two cases have the same voxels, or slices, whatever their headers and file types say."""
    alike: dict[str, list[str]] = defaultdict(list)
    for case in cohort.cases:
        if case.voxels_hash:
            alike[case.voxels_hash].append(case.case_id)
    for names in alike.values():
        for name in names[1:]:
            where = _in_both(cohort, names[0], name)
            yield Fault(f"the CT is that of {names[0]}, voxel for voxel{where}", case_id=name)
    first = {names[0] for names in alike.values()}
    for other, name, slices, share in _share_slices(
        [c for c in cohort.cases if c.case_id in first]
    ):
        if slices >= limits["slices"] and share >= limits["share"]:
            where = _in_both(cohort, other, name)
            text = f"about {share:.0%} of its slices and those of {other} are the same{where}"
            yield Fault(f"{text}: one scan, cut or continued", value=share, case_id=name)


def _in_both(cohort: Cohort, one: str, other: str) -> str:
    return ", in both splits" if cohort.split(one) != cohort.split(other) else ""


def _share_slices(cases: list[Measured]) -> Iterator[tuple[str, str, int, float]]:
    """Each case after the earlier one that it shares most slices with: how many, what share.

    The lowest hashes of the slices of both are a sample of them all; how many of the sample both
    have estimates the share.
    """
    holders: dict[int, list[int]] = defaultdict(list)
    for n, case in enumerate(cases):
        met = Counter(m for value in case.slices for m in holders[value])
        if met:
            other = cases[met.most_common(1)[0][0]]
            lowest = set(sorted({*case.slices, *other.slices})[:SLICES_KEPT])
            common = len(lowest.intersection(case.slices, other.slices))
            yield other.case_id, case.case_id, common, common / len(lowest)
        for value in case.slices:
            holders[value].append(n)


@rule(
    "duplicate-labels",
    ERROR,
    Scope.DATASET,
    reason="Labels copied from another case, or the same scan after a change of its HU.",
    least_structures=3,
)
def duplicate_labels(cohort: Cohort, limits: Limits) -> Iterator[Fault]:
    """No two cases with different CTs have the same masks."""
    alike: dict[str, list[Measured]] = defaultdict(list)
    for case in cohort.cases:
        if case.labels_hash and len(case.ml) >= limits["least_structures"]:
            alike[case.labels_hash].append(case)
    for same in alike.values():
        for case in same[1:]:
            if not case.voxels_hash or case.voxels_hash != same[0].voxels_hash:
                text = f"its masks are those of {same[0].case_id}, voxel for voxel"
                yield Fault(text, case_id=case.case_id)


@rule(
    "patient-in-both-splits",
    ERROR,
    Scope.DATASET,
    reason="A patient in training and test makes the test easier than it is.",
)
def patient_in_both_splits(cohort: Cohort, limits: Limits) -> Iterator[Fault]:
    """A patient's scans lie in one split."""
    scans: dict[str, list[str]] = defaultdict(list)
    for case in cohort.cases:
        patient = cohort.metadata.get(case.case_id, {}).get("patient_id")
        if patient:
            scans[str(patient)].append(case.case_id)
    for names in scans.values():
        train = [n for n in names if cohort.split(n) == "train"]
        for name in [n for n in names if cohort.split(n) == "test"] if train else []:
            yield Fault(f"the same patient's {train[0]} is a training case", case_id=name)


@rule(
    "metadata-orphan",
    INFO,
    Scope.DATASET,
    reason="A row without a case: a download that is not complete, or an ID that changed.",
)
def metadata_orphan(cohort: Cohort, limits: Limits) -> Iterator[Fault]:
    """Every row of the metadata table has a case; told once."""
    known = {case.case_id for case in cohort.cases}
    missing = sorted(set(cohort.metadata) - known)
    if missing and not cohort.partial:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        text = f"the metadata table has rows without a case: {', '.join(missing[:3])}{more}"
        yield Fault(text, value=len(missing))


@rule(
    "mask-forgotten",
    WARNING,
    Scope.DATASET,
    reason="Almost every case has this mask: it was forgotten, or lost on the way.",
    share=0.9,
    cases=10,
)
def mask_forgotten(cohort: Cohort, limits: Limits) -> Iterator[Fault]:
    """A structure that nearly all cases annotate is annotated in each."""
    labelled = [case for case in cohort.cases if case.annotated]
    if len(labelled) < limits["cases"]:
        return
    for structure in STRUCTURES:
        there = sum(structure in case.annotated for case in labelled)
        if limits["share"] * len(labelled) <= there < len(labelled):
            for case in (c for c in labelled if structure not in c.annotated):
                if not case.told_missing:
                    share = there / len(labelled)
                    text = f"no mask of {structure}, which {share:.0%} of the cases have"
                    yield Fault(text, structure, case_id=case.case_id)


@rule(
    "description",
    WARNING,
    Scope.DATASET,
    reason="Readers go by dataset.json: what it leaves out is not trained on, scored or exported.",
)
def description(cohort: Cohort, limits: Limits) -> Iterator[Fault]:
    """Every structure that all cases have masks of is listed in dataset.json.

    What some cases have and others not, as in a dataset of several sources, need not be; what is
    listed is one of the structures.
    """
    for name in (s for s in cohort.listed if s not in STRUCTURES):
        text = f"dataset.json calls {name!r} annotated, which is none of the 28 structures"
        yield Fault(f"{text}: it is passed over")
    labelled = [case for case in cohort.cases if case.annotated]
    if not cohort.listed or not labelled:
        return
    for structure in (s for s in STRUCTURES if s not in cohort.listed):
        if all(structure in case.annotated for case in labelled):
            which = "the case has" if len(labelled) == 1 else f"all {len(labelled)} cases have"
            text = f"{which} masks that dataset.json does not list as annotated: {structure}"
            yield Fault(text, structure, len(labelled))


@rule(
    "unusual",
    INFO,
    Scope.DATASET,
    reason="Far from the dataset's own middle: ranges learned from it, in place of a table.",
    cases=20,
    deviations=6,
)
def unusual(cohort: Cohort, limits: Limits) -> Iterator[Fault]:
    """Volume, HU, spacing and age are within the dataset's own spread (median and MAD)."""
    for name, structure, values, log in _quantities(cohort):
        if len(values) < limits["cases"]:
            continue
        numbers = np.array(list(values.values()), dtype=np.float64)
        if log:
            numbers = np.log(numbers)
        middle = float(np.median(numbers))
        # 1.4826 MAD is the standard deviation of a normal distribution. A spread of nothing
        # (one protocol) would make every other scan an outlier.
        spread = 1.4826 * float(np.median(np.abs(numbers - middle)))
        spread = max(spread, 0.1 if log else 0.02 * abs(middle) + 1.0)
        for case_id, number in zip(values, numbers, strict=True):
            off = abs(number - middle) / spread
            if off > limits["deviations"]:
                usual = float(np.exp(middle)) if log else middle
                text = f"{name} is {values[case_id]:.3g}; the dataset's median is {usual:.3g}"
                yield Fault(text, structure, values[case_id], case_id=case_id)


def _quantities(cohort: Cohort) -> Iterator[tuple[str, str, dict[str, float], bool]]:
    """Name, structure, case to value, and whether to compare logarithms."""
    cases = cohort.cases
    for structure in (s for s in STRUCTURES if s != LESION):
        whole = {
            c.case_id: c.ml[structure]
            for c in cases
            if c.ml.get(structure, 0) > 0 and structure not in c.cut
        }
        yield f"volume of {structure} in ml", structure, whole, True
        for phase in sorted({c.phase for c in cases if c.phase}):
            means = {c.case_id: c.hu[structure] for c in cases if structure in c.hu}
            own = {c: v for c, v in means.items() if cohort.phase(c) == phase}
            words = phase.replace("_", " ")
            yield f"mean HU of {structure} ({words})", structure, own, False
    spacings = {c.case_id: c.spacing for c in cases if c.spacing}
    yield "spacing in the slice in mm", "", {c: s[0] for c, s in spacings.items()}, True
    yield "distance between slices in mm", "", {c: s[2] for c, s in spacings.items()}, True
