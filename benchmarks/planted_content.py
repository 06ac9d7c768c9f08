"""Faults of the CT's values, of metadata, and between cases."""

from __future__ import annotations

import gzip
import json

import numpy as np
from planted_case import EVERYTHING, Clean, DoesNotApplyError, Planting, copy_case
from planted_kind import kind

from pantskit.core.writing import write_volume

HOUNSFIELD = "The CT is in Hounsfield units, -1000 to 1000."
TABLE = "The metadata are those of the scan."
ONCE = "A scan is in the dataset once; a patient is on one side of the split."


# The CT's values


@kind("ct-slices-blank", "The CT has every slice.", structures=EVERYTHING, levels=(10, 3, 1))
def ct_slices_blank(case: Planting, count: int) -> None:
    """Slices through the liver that hold nothing but air."""
    slices = np.flatnonzero(case.mask("liver").any(axis=(0, 1)))
    start = int(slices[len(slices) // 2])
    case.ct[:, :, start : start + count] = -1000


@kind(
    "hu-offset", HOUNSFIELD, severity="error", structures=EVERYTHING, levels=(1024, -1024, 100, 50)
)
def hu_offset(case: Planting, offset: int) -> None:
    case.ct = (case.ct.astype(np.int32) + offset).astype(np.int16)


@kind("hu-scaled", HOUNSFIELD, structures=EVERYTHING, levels=(3.0, 1.5, 1.2))
def hu_scaled(case: Planting, factor: float) -> None:
    case.ct = np.rint(case.ct * factor).astype(np.int16)


# Metadata

_LEAST_LIKE = {
    "non_contrast": ("arterial", "portal_venous", "delayed"),
    "arterial": ("non_contrast", "delayed", "portal_venous"),
    "portal_venous": ("non_contrast", "arterial", "delayed"),
    "delayed": ("non_contrast", "arterial", "portal_venous"),
}


@kind(
    "phase-wrong",
    TABLE,
    structures=("aorta", "veins", "kidney_left", "kidney_right"),
    levels=("least like", "second", "most like", "portal venous, delayed"),
    words=("phase",),
    below={"portal venous, delayed": "vessels and organs have the same HU in both, in part"},
)
def phase_wrong(case: Planting, how: str) -> None:
    """The phase least like the scan's, the second, the most like, or one of two exchanged."""
    phase = case.fields["phase"]
    if phase not in _LEAST_LIKE:
        raise DoesNotApplyError("nobody knows the phase")
    late = phase in ("portal_venous", "delayed")
    if (how == "most like" and late) or ("," in how and not late):
        raise DoesNotApplyError(f"{how}: the scan is {phase}")
    nth = {"least like": 0, "second": 1}.get(how, 2)
    case.fields["phase"] = _LEAST_LIKE[phase][nth]


@kind("age-impossible", TABLE, structures=(), levels=(900, 130, -3), words=("age", "age_years"))
def age_impossible(case: Planting, years: int) -> None:
    case.fields["age_years"] = years


@kind("metadata-spacing-wrong", TABLE, structures=(), levels=(0.1, 1.1, 1.02), words=("spacing",))
def metadata_spacing_wrong(case: Planting, factor: float) -> None:
    """0.1: in cm."""
    case.fields["spacing"] = str(tuple(round(s * factor, 4) for s in case.spacing))


@kind(
    "metadata-shape-wrong",
    TABLE,
    structures=(),
    levels=("turned", "a slice less"),
    words=("shape",),
    below={"turned": "the table does not say in which order its axes are"},
)
def metadata_shape_wrong(case: Planting, how: str) -> None:
    i, j, k = case.ct.shape
    case.fields["shape"] = str((k, j, i) if how == "turned" else (i, j, k - 1))


@kind("sex-wrong", TABLE, structures=("prostate",), levels=("F",), words=("sex",))
def sex_wrong(case: Planting, sex: str) -> None:
    """A scan with a prostate is said to be a woman's."""
    case.mask("prostate")
    case.fields["sex"] = sex


@kind("metadata-without-row", TABLE, structures=(), levels=("no row",), words=("metadata", "row"))
def metadata_without_row(case: Planting, level: str) -> None:
    """The table has another case's row."""
    case.row = None
    case.more_rows.append(case.other.row)
    copy_case(case.other, case.root)


# Between cases


def beside(case: Planting, clean: Clean, row: dict[str, object], split: str) -> None:
    """A second case in the dataset, on a side, under the row's name."""
    name = str(row["case_id"])
    copy_case(clean, case.root, name=name, split=split)
    case.more_rows.append(row | {"split": split})


@kind(
    "patient-on-both-sides",
    ONCE,
    severity="error",
    structures=(),
    levels=("same patient_id",),
    words=("patient", "patient_id"),
    on_disk=True,
)
def patient_on_both_sides(case: Planting, level: str) -> None:
    other = "test" if case.clean.split == "train" else "train"
    beside(case, case.other, case.other.row | {"patient_id": case.fields["patient_id"]}, other)
    case.write_rows()


@kind(
    "scan-twice",
    ONCE,
    structures=(),
    levels=("same file", "compressed anew", "one voxel differs", "another patient_id"),
    words=("same", "duplicate", "copy", "twice", "identical"),
    on_disk=True,
)
def scan_twice(case: Planting, how: str) -> None:
    """Under another name on the same side."""
    row = case.fields | {"case_id": "Phantom_90000000"}
    if how == "another patient_id":
        row["patient_id"] = "P-other"
    beside(case, case.clean, row, case.clean.split)
    path = case.dataset.image_path("Phantom_90000000", case.clean.split)
    if how == "compressed anew":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 9))
    elif how == "one voxel differs":
        other = case.ct.copy()
        other[tuple(n // 2 for n in other.shape)] += 1
        write_volume(path, case.clean.ct.with_array(other))
    case.write_rows()


@kind(
    "description-wrong",
    "dataset.json names the structures that are annotated.",
    structures=("gall_bladder",),
    levels=("a structure less",),
    words=("dataset.json",),
    on_disk=True,
)
def description_wrong(case: Planting, level: str) -> None:
    """A structure has masks that dataset.json does not know."""
    path = case.root / "dataset.json"
    info = json.loads(path.read_text("utf-8"))
    info["annotated"] = [s for s in info["annotated"] if s != "gall_bladder"]
    path.write_text(json.dumps(info), "utf-8")
