"""The metadata row: is there one, is it sane, and does it fit the files and masks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from pantskit.check.cohort import Cohort
from pantskit.check.findings import Fault, Severity
from pantskit.check.read import CaseFiles
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.scan import Scan
from pantskit.core.dataset import PHASES
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
Three = tuple[float, float, float]


@rule(
    "metadata-row",
    WARNING,
    Scope.FILES,
    reason="A case without a row has no phase, sex or tumour flag: it drops out of every table.",
)
def metadata_row(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """A case of a dataset with a metadata table has a row in it."""
    if files.tabled and not files.metadata:
        yield Fault("the metadata table has no row of this case")


@rule(
    "metadata-grid",
    ERROR,
    Scope.FILES,
    reason="The table and the file tell of different volumes: a spacing lost, or another scan.",
    tolerance_mm=0.02,
)
def metadata_grid(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Shape and spacing of the row are those of the file, in its order of axes or the reverse.

    Tables give them as the file does, or slices first, as arrays of some programs are.
    """
    geometry = files.ct.geometry if files.ct is not None else files.geometry
    if geometry is None:
        return
    shape = _three(files.metadata.get("shape"))
    if shape is not None and sorted(shape) != sorted(geometry.shape):
        yield Fault(
            f"metadata says shape {tuple(int(n) for n in shape)}, the file has {geometry.shape}"
        )
    spacing = _three(files.metadata.get("spacing"))
    if spacing is not None:
        off = float(np.abs(np.sort(spacing) - np.sort(geometry.spacing)).max())
        if off > limits["tolerance_mm"]:
            found = ", ".join(f"{s:.4g}" for s in geometry.spacing)
            told = ", ".join(f"{s:.4g}" for s in spacing)
            yield Fault(
                f"metadata says a spacing of ({told}) mm, the file has ({found}) mm", value=off
            )
            return
    if shape is None or sorted(shape) == sorted(geometry.shape):
        yield from _axes_turned(shape, spacing, geometry, limits["tolerance_mm"])


def _axes_turned(
    shape: Three | None, spacing: Three | None, geometry: Geometry, tolerance_mm: float
) -> Iterator[Fault]:
    """A row whose numbers are the file's in an order that is neither its own nor the reverse."""
    for step in (1, -1):
        same = shape is None or shape == geometry.shape[::step]
        if same and (spacing is None or _close(spacing, geometry.spacing[::step], tolerance_mm)):
            return
    told = ", ".join(f"{name} {v}" for name, v in (("shape", shape), ("spacing", spacing)) if v)
    found = f"shape {geometry.shape}, spacing {tuple(round(s, 4) for s in geometry.spacing)}"
    yield Fault(f"metadata has the axes in another order: {told}; the file has {found}")


def _close(a: Three, b: tuple[float, ...], tolerance_mm: float) -> bool:
    return bool(np.abs(np.array(a) - b).max() <= tolerance_mm)


@rule(
    "spacing",
    WARNING,
    Scope.FILES,
    reason="Nobody scans an abdomen so: the spacing is wrong, or the scan is of another kind.",
    least_pixel_mm=0.3,
    largest_pixel_mm=6.0,
    least_slice_mm=0.2,
    largest_slice_mm=12.5,
)
def spacing(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Pixels and slices have sizes that occur in CT of the trunk."""
    geometry = files.ct.geometry if files.ct is not None else files.geometry
    if geometry is None:
        return
    x, y, z = geometry.reoriented("RAS").spacing
    low, high = limits["least_pixel_mm"], limits["largest_pixel_mm"]
    if not (low <= x <= high and low <= y <= high):
        yield Fault(
            f"pixels of {x:.4g} x {y:.4g} mm, expected {low:g} to {high:g}", value=max(x, y)
        )
    low, high = limits["least_slice_mm"], limits["largest_slice_mm"]
    if not low <= z <= high:
        yield Fault(f"slices {z:.4g} mm apart, expected {low:g} to {high:g}", value=z)


@rule(
    "metadata-table",
    WARNING,
    Scope.DATASET,
    reason="Who reads another row, or another of the tables, reads of another patient.",
)
def metadata_table(cohort: Cohort, limits: Limits) -> Iterator[Fault]:
    """Each case has one row, and all metadata tables are one table."""
    yield from cohort.table_faults


@rule(
    "metadata-gaps",
    INFO,
    Scope.DATASET,
    reason="What a row does not tell is counted as unknown: strata by phase or sex lack the case.",
)
def metadata_gaps(cohort: Cohort, limits: Limits) -> Iterator[Fault]:
    """What a table tells of most cases it tells of each; a line a column."""
    known = {case.case_id for case in cohort.cases}
    rows = {c: row for c, row in cohort.metadata.items() if c in known}
    for column in ("phase", "sex", "age_years", "lesions"):
        without = sorted(c for c, row in rows.items() if not _told(row.get(column)))
        if 0 < len(without) < len(rows):
            more = f" and {len(without) - 3} more" if len(without) > 3 else ""
            text = f"no {column} in {len(without)} of {len(rows)} rows"
            yield Fault(f"{text}: {', '.join(without[:3])}{more}", value=len(without))


@rule(
    "age",
    WARNING,
    Scope.FILES,
    reason="Ranges of volume and place hold for adults; an impossible age is a slip of the table.",
    adult=15,
    oldest=110,
)
def age(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """The age is a number, and an adult's."""
    told = files.metadata.get("age_years")
    if told in (None, ""):
        return
    years = _number(told)
    if years is None or not 0 <= years <= limits["oldest"]:
        yield Fault(f"age {told!r} is no age", value=years)
    elif years < limits["adult"]:
        text = f"aged {years:g}: a child's organs are smaller than the ranges of adults"
        yield Fault(text, value=years)


@rule(
    "metadata-words",
    WARNING,
    Scope.FILES,
    reason="A word that nobody knows is counted as unknown, and the case leaves its stratum.",
)
def metadata_words(files: CaseFiles, limits: Limits) -> Iterator[Fault]:
    """Sex and phase are words that are understood; numbers are numbers."""
    sex = str(files.metadata.get("sex") or "").strip()
    if sex and sex.upper() not in ("M", "F", "O", "UNKNOWN", "U"):
        yield Fault(f"sex {sex!r} is neither M nor F")
    phase = str(files.metadata.get("phase") or "").strip()
    if phase and phase not in (*PHASES, "unknown"):
        yield Fault(f"phase {phase!r} is none of {', '.join(PHASES)}")
    count = files.metadata.get("lesions")
    if _told(count) and ((number := _number(count)) is None or number < 0):
        yield Fault(f"number of tumours {count!r} is no number")
    for column in ("shape", "spacing"):
        value = files.metadata.get(column)
        if _told(value) and _three(value) is None:
            yield Fault(f"{column} {value!r} is not three numbers")


@rule(
    "tumour-flag",
    ERROR,
    Scope.LABELS,
    reason="Sensitivity and specificity count by this flag: one wrong case moves both.",
    standard="Pancreatic tumours: the entire mass is annotated wherever it lies in the pancreas.",
)
def tumour_flag(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The metadata's tumour flag and the mask agree."""
    flag = _number(scan.metadata.get("lesions"))
    if flag is None or LESION not in scan.annotated:
        return
    region = scan.regions.get(LESION)
    if flag > 0 and region is None:
        tumours = "a tumour" if flag == 1 else f"{flag:g} tumours"
        yield scan.fault(f"metadata tells of {tumours}, the mask is empty", LESION, 0)
    if flag == 0 and region is not None:
        text = f"metadata says no tumour, the mask has {region.voxels} voxels"
        yield scan.fault(text, LESION, region.voxels)


@rule(
    "sex",
    WARNING,
    Scope.LABELS,
    reason="Either the table or the mask is of somebody else.",
    standard="Prostate: parenchyma and prostatic urethra.",
)
def sex(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A woman has no prostate."""
    female = str(scan.metadata.get("sex") or "").strip().upper() == "F"
    if female and "prostate" in scan.regions:
        text = "metadata says female, the prostate mask is not empty"
        yield scan.fault(text, "prostate", scan.regions["prostate"].voxels)


def _told(value: Any) -> bool:
    """Whether a cell says anything."""
    return str(value).strip().lower() not in ("", "none", "nan", "unknown", "n/a", "-")


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _three(value: Any) -> Three | None:
    """Three numbers from a text such as "(512, 512, 300)", or a list; None where they are none."""
    found = re.findall(r"[-+0-9.eE]+", str(value)) if value not in (None, "") else []
    try:
        numbers = [float(n) for n in found]
    except ValueError:
        return None
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None
