"""One case: from its source files to a CT, masks and facts in the standard dataset."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.errors import ImageError, PantskitError, Skipped
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, STRUCTURES, LabelMap
from pantskit.core.run import Job
from pantskit.core.writing import write_slabs
from pantskit.ingest.discovery.sources import Reader
from pantskit.ingest.facts.describe import metadata_row
from pantskit.ingest.facts.phase import Phase, decide_phase, measure_sample, organ_steps
from pantskit.ingest.facts.sample import Sample
from pantskit.ingest.facts.view import View, look_at_sample, view_steps
from pantskit.ingest.images import Image, read_image
from pantskit.ingest.labels.masks import onto_grid, read_masks
from pantskit.ingest.plan import CasePlan
from pantskit.ingest.privacy.audit import audit_record
from pantskit.ingest.privacy.export import export_series
from pantskit.ingest.privacy.leaks import LeakScan, explain
from pantskit.measure.components import components

STAGE = "ingest"


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
            data = _make(plan, scan, reader)
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
    source = plan.labels
    names = [name for name, _ in (*source.masks, *source.series)] if source else []
    scan = LeakScan(plan.identifiers, own_words=ours, facts=facts, label_names=names)
    scan.allow_dates([plan.moved_date] if plan.moved_date else [])
    return scan


def _make(plan: CasePlan, scan: LeakScan, reader: Reader) -> dict[str, Any]:
    image = read_image(plan, reader)
    samples = _Samples(image.geometry, organs=plan.labels is not None)
    voxels = scan.voxels()
    # The CT goes from the source into the file and past all who look at it, once, in parts.
    passing = _shown(image.slabs, voxels.add, *samples.watchers)
    write_slabs(plan.ct_path, image.geometry, np.dtype(np.int16), passing)
    leaks = scan.file(plan.ct_path, voxels)
    labels, masks = _labels(plan, image, reader)
    leaks += scan.folder(plan.labels_path)
    phase, view = _content(plan, image.geometry, samples, masks)
    lesions = labels.pop("lesions", None)
    metadata = metadata_row(
        plan.facts,
        image.geometry,
        case_id=plan.case_id,
        patient_id=plan.patient_id,
        split=plan.split,
        site=plan.site,
        lesions=lesions,
        **phase.columns(),
        **view.columns(),
    )
    data = {
        "metadata": metadata,
        "geometry": _geometry(image.geometry, image.source.pop("orientation", None)),
        "source": image.source | {"clinical_faults": list(plan.clinical_faults)},
        "hounsfield": image.clipped.as_record(),
        "phase": phase.as_record(),
        "view": view.as_record(),
        "labels": labels,
        "moved_date": plan.moved_date,
    }
    leaks += scan.value(data, "record")
    if leaks:
        raise PantskitError(f"{plan.case_id}: {explain(leaks)}; nothing of the case was kept")
    export = _export(plan, image, scan, reader)
    flags = {"lossy": image.source.get("lossy", False), "head_in_view": view.head_in_view}
    data["deidentification"] = audit_record(
        plan.slices, plan.facts, plan.identifiers, scan, export=export, flags=flags
    )
    return data


def _geometry(geometry: Geometry, source_orientation: str | None) -> dict[str, Any]:
    return {
        "shape": geometry.shape,
        "spacing": geometry.spacing,
        "affine": geometry.affine,
        "orientation": geometry.orientation,
        "source_orientation": source_orientation,
    }


def _labels(
    plan: CasePlan, image: Image, reader: Reader
) -> tuple[dict[str, Any], CodedMasks | None]:
    """Write the case's masks; what the record says of them, and the masks.

    Without annotations in this run, those of an earlier one stay while they fit the CT.
    """
    ct = image.geometry
    if plan.labels is None:
        return _earlier_labels(plan, ct), None
    settings = plan.settings
    label_map = LabelMap.parse(settings.label_map) if settings.label_map else None
    found = read_masks(plan.labels, label_map, reader, case_id=plan.case_id, scan=image.scan)
    resampling = onto_grid(
        found, ct, case_id=plan.case_id, resample=settings.resample_labels, follow=image.follow
    )
    dataset = Dataset(plan.root, {})
    written = write_case_labels(dataset, plan.case_id, plan.split, found.coded, ct)
    record = {
        **written,
        "united": {s: names for s, names in found.sources.items() if len(names) > 1},
        "sources": found.sources,
        "unmapped": found.unmapped,
        "empty": found.empty,
        "resampled": bool(resampling),
        "resampling": resampling,
        "faults": found.faults,
        "lesions": _lesions(found.coded, ct),
    }
    return record, found.coded


def _lesions(masks: CodedMasks, geometry: Geometry) -> int | None:
    """How many lesions there are; None where nobody looked for them."""
    mask, slices = masks.mask(LESION), masks.slices(LESION)
    if mask is None or not slices:
        return None if mask is None else 0
    return len(components(mask[:, :, slices.start : slices.stop], geometry.affine)[1])


def _earlier_labels(plan: CasePlan, ct: Geometry) -> dict[str, Any]:
    """What an earlier run recorded of labels that are still there; `{}` where none fit."""
    dataset = Dataset(plan.root, {})
    earlier = dataset.records.read(STAGE, plan.case_id)
    if earlier and earlier.data.get("labels") and plan.labels_path.is_dir():
        grid = earlier.data["geometry"]
        if Geometry(tuple(grid["shape"]), grid["affine"]).same_grid(ct):
            lesions = earlier.data["metadata"].get("lesions")
            return {**earlier.data["labels"], "lesions": lesions}
    _remove_labels(plan)
    return {}


class _Samples:
    """What is kept of a CT's voxels after they were written: enough to tell phase and view."""

    def __init__(self, geometry: Geometry, *, organs: bool) -> None:
        self.view = Sample(geometry.shape, view_steps(geometry))
        self.organs = Sample(geometry.shape, organ_steps(geometry.shape)) if organs else None

    @property
    def watchers(self) -> list[Callable[[NDArray[np.int16]], None]]:
        return [sample.add for sample in (self.view, self.organs) if sample]


def _shown(
    slabs: Iterator[NDArray[np.int16]], *watchers: Callable[[NDArray[np.int16]], None]
) -> Iterator[NDArray[np.int16]]:
    for slab in slabs:
        for watch in watchers:
            watch(slab)
        yield slab


def _content(
    plan: CasePlan, geometry: Geometry, samples: _Samples, masks: CodedMasks | None
) -> tuple[Phase, View]:
    """What the voxels tell: contrast phase and what is in view."""
    facts = plan.facts
    organs = measure_sample(samples.organs, masks) if masks and samples.organs else None
    phase = decide_phase(facts.get("phase"), facts.get("phase_reason", ""), organs)
    regions = [r for r in (facts.get("body_part") or "").split("-") if r]
    return phase, look_at_sample(samples.view, geometry, masks, regions)


def _export(plan: CasePlan, image: Image, scan: LeakScan, reader: Reader) -> dict[str, Any] | None:
    """Write the series as de-identified DICOM where that is asked for."""
    folder = plan.export_path
    if folder is None or plan.pseudonyms is None:
        return None
    return export_series(
        image.slices,
        reader,
        folder,
        pseudonyms=plan.pseudonyms,
        case_id=plan.case_id,
        patient_id=plan.patient_id,
        facts=plan.facts,
        scan=scan,
    )


def remove_outputs(plan: CasePlan) -> None:
    """Take away whatever was written of a case, so that none is half there."""
    shutil.rmtree(plan.ct_path.parent, ignore_errors=True)
    if plan.export_path:
        shutil.rmtree(plan.export_path, ignore_errors=True)
    _remove_labels(plan)


def _remove_labels(plan: CasePlan) -> None:
    shutil.rmtree(plan.labels_path, ignore_errors=True)
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
    files = [(plan.volume.path, "the CT")] if plan.volume else []
    files += [(header.file.path, "a DICOM file") for header in plan.slices]
    files.append((plan.root, "the dataset"))
    return sorted(set(files), key=lambda item: -len(str(item[0])))
