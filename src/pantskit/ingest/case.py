"""One case: from its source files to a CT, masks and facts in the standard dataset."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.errors import (
    GeometryError,
    ImageError,
    PantskitError,
    Quarantined,
    Skipped,
)
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, STRUCTURES, LabelMap
from pantskit.core.run import Job
from pantskit.core.volume import Volume, read_volume, write_volume
from pantskit.ingest.dicom_pixels import LOSSY_SYNTAXES, read_series
from pantskit.ingest.headers import ImageHeader
from pantskit.ingest.hounsfield import Clipped, volume_to_hu
from pantskit.ingest.leaks import LeakScan
from pantskit.ingest.masks import onto_grid, read_masks
from pantskit.ingest.plan import CasePlan
from pantskit.ingest.planes import Scan
from pantskit.ingest.sources import Reader
from pantskit.measure.components import components


def ingest_case(job: Job) -> dict[str, Any]:
    """Make one case of the dataset; on any error nothing of it stays behind.

    Args:
        job: its payload is a `CasePlan`.

    Returns:
        The record's data; `metadata` in it is the case's row.

    Raises:
        Skipped, Quarantined, PantskitError: With a message that names nobody and no file.
    """
    plan: CasePlan = job.payload
    scan = leak_scan(plan)
    try:
        if plan.skip:
            raise Skipped(plan.skip)
        if plan.fault:
            raise ImageError(plan.fault)
        with Reader() as reader:
            data = _make(plan, reader)
        _require_no_leak(plan, scan, data)
    except BaseException as error:
        remove_outputs(plan)
        if isinstance(error, Exception):
            raise _safe(error, plan, scan) from None
        raise
    return data


def leak_scan(plan: CasePlan) -> LeakScan:
    """A scan for the case's identifiers that lets the allowed facts and our own words pass."""
    facts = [str(v) for v in plan.facts.values() if v is not None]
    # Reasons to skip or refuse a series are our own words about coded values.
    ours = (plan.skip, plan.fault, plan.doubt, plan.site, *STRUCTURES)
    return LeakScan(plan.identifiers, own_words=ours, facts=facts)


def _make(plan: CasePlan, reader: Reader) -> dict[str, Any]:
    volume, clipped, source, scan = _read_nifti(plan) if plan.nifti else _read_dicom(plan, reader)
    standard = volume.reoriented()
    write_volume(plan.folders[0] / "ct.nii.gz", standard)
    labels = _labels(plan, scan, standard.geometry, reader)
    geometry = standard.geometry
    metadata = {
        "case_id": plan.case_id,
        "patient_id": plan.patient_id,
        "split": plan.split,
        "shape": str(geometry.shape),
        "spacing": str(tuple(round(s, 6) for s in geometry.spacing)),
        **plan.facts,
        "site": plan.site,
        "nationality": None,
        "lesions": labels.pop("lesions", None),
    }
    return {
        "metadata": metadata,
        "geometry": {
            "shape": geometry.shape,
            "spacing": geometry.spacing,
            "affine": geometry.affine,
            "orientation": geometry.orientation,
            "source_orientation": source.pop("orientation"),
        },
        "source": source,
        "hounsfield": clipped.as_record(),
        "labels": labels,
    }


_Image = tuple[Volume, Clipped, dict[str, Any], Scan]


def _read_dicom(plan: CasePlan, reader: Reader) -> _Image:
    volume, clipped, stack = read_series(plan.slices, reader)
    if plan.doubt:
        raise Quarantined(plan.doubt)
    syntaxes = sorted({s.transfer_syntax for s in plan.slices})
    return (
        volume,
        clipped,
        {
            "format": "dicom",
            "orientation": stack.orientation,
            "transfer_syntax": [pydicom.uid.UID(s).name for s in syntaxes],
            "lossy": any(s.lossy for s in plan.slices)
            or bool(LOSSY_SYNTAXES.intersection(syntaxes)),
            "slices": len(stack.order),
            "copies_of_slices": len(stack.duplicates),
            "slice_deviation_mm": round(stack.deviation_mm, 6),
            "faults": _header_faults(plan.slices),
        },
        Scan.of_series(plan.slices, stack.order, stack.geometry),
    )


def _header_faults(slices: tuple[ImageHeader, ...]) -> list[str]:
    """What is odd between the headers of a series and need not be wrong."""
    faults = []
    numbers = sorted({s.instance for s in slices if s.instance is not None})
    if len(set(np.diff(numbers).tolist())) > 1:
        faults.append("instance numbers have gaps, though no position between slices is missing")
    if len({(s.slope, s.intercept) for s in slices}) > 1:
        faults.append("rescale slope and intercept differ between slices; each has its own")
    return faults


def _read_nifti(plan: CasePlan) -> _Image:
    assert plan.nifti is not None
    try:
        source = read_volume(plan.nifti.path)
    except GeometryError as error:  # readable, but its place is in doubt
        raise Quarantined(str(error)) from None
    volume, clipped = volume_to_hu(source)
    facts = {
        "format": "nifti",
        "orientation": source.geometry.orientation,
        "type": str(source.array.dtype),
        "faults": list(source.faults),
    }
    return volume, clipped, facts, Scan.of_volume(source.geometry)


def _labels(plan: CasePlan, scan: Scan, ct: Geometry, reader: Reader) -> dict[str, Any]:
    """Write the case's masks; what the record says of them, `{}` without annotations."""
    if plan.labels is None:
        return {}
    label_map = LabelMap.parse(plan.label_map) if plan.label_map else None
    found = read_masks(plan.labels, label_map, reader, case_id=plan.case_id, scan=scan)
    resampling = onto_grid(found, ct, case_id=plan.case_id, resample=plan.resample_labels)
    dataset = Dataset(plan.root, {})
    written = write_case_labels(dataset, plan.case_id, plan.split, found.coded, ct)
    lesion = found.coded.mask(LESION)
    return {
        **written,
        "united": {s: names for s, names in found.sources.items() if len(names) > 1},
        "sources": found.sources,
        "unmapped": found.unmapped,
        "empty": found.empty,
        "resampled": bool(resampling),
        "resampling": resampling,
        "faults": found.faults,
        "lesions": None if lesion is None else len(components(lesion, ct.affine)[1]),
    }


def _require_no_leak(plan: CasePlan, scan: LeakScan, data: dict[str, Any]) -> None:
    leaks = scan.value(data, "record")
    for folder in plan.folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            leaks += scan.text(path.relative_to(folder.parent).as_posix(), "file name")
            leaks += scan.file(path) if path.is_file() else []
    if leaks:
        found = sorted({f"{leak.attribute} in {leak.place}" for leak in leaks})
        raise PantskitError(
            f"{plan.case_id}: the leak scan found identifying values ({'; '.join(found[:5])}); "
            "nothing of the case was kept"
        )


def remove_outputs(plan: CasePlan) -> None:
    """Take away whatever was written of a case, so that none is half there."""
    for folder in plan.folders:
        shutil.rmtree(folder, ignore_errors=True)
    Dataset(plan.root, {}).records.path("labels", plan.case_id).unlink(missing_ok=True)


def _safe(error: Exception, plan: CasePlan, scan: LeakScan) -> Exception:
    """The error with a message for the record: the case's pseudonym, no file, no identifier."""
    kind = type(error) if isinstance(error, PantskitError) else ImageError
    message = str(error)
    if isinstance(error, OSError):
        message = f"cannot write or read: {error.strerror or type(error).__name__}"
        if error.errno == errno.ENOSPC:
            message += "; free some space and run again"
    elif not isinstance(error, PantskitError):
        message = f"{type(error).__name__} while the case was made"
    files = _named_files(plan)
    for path, what in files:
        message = message.replace(str(path), what)
    for path, what in files:  # afterwards: a CT and its label map may have one name
        if ".nii" in path.name:
            message = message.replace(path.name, what)
    message = message.removeprefix(f"{plan.case_id}: ")
    if scan.text(message, "message"):
        message = "failed; the reason quotes an identifying value and is not kept"
    return kind(f"{plan.case_id}: {message}")


def _named_files(plan: CasePlan) -> list[tuple[Path, str]]:
    """Source files with the words that stand for them in messages; longest names first."""
    files = [(plan.nifti.path, "the CT")] if plan.nifti else []
    files += [(header.file.path, "a DICOM file") for header in plan.slices]
    files.append((plan.root, "the dataset"))
    return sorted(set(files), key=lambda item: -len(str(item[0])))
