"""One case of a source: from its files to a CT, masks and a record in the standard dataset."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.dataset import SPLITS, Dataset, write_case_labels
from pantskit.core.errors import LabelError, PantskitError, Skipped
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, STRUCTURES, LabelMap
from pantskit.core.labelvolumes import read_mask
from pantskit.core.run import Job
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.ingest.facts.describe import describe_header, metadata_row
from pantskit.ingest.facts.phase import decide_phase, measure_organs
from pantskit.ingest.facts.view import look_at
from pantskit.ingest.sources.declaration import LabelSet, Source
from pantskit.ingest.sources.layouts import FoundCase
from pantskit.ingest.sources.liver_side import require_liver_on_the_right
from pantskit.ingest.sources.placing import Placed, place
from pantskit.ingest.sources.reading import Labels, Scan, read_labels, read_scan
from pantskit.ingest.sources.same_scans import voxel_hash
from pantskit.ingest.sources.second_label import second_label_notes
from pantskit.ingest.sources.sides import Middle, middle_of, require_sides, split_sides
from pantskit.measure.components import components

STAGE = "import"


@dataclass(frozen=True)
class ImportPlan:
    """All that a worker needs to import one case.

    Attributes:
        source: the dataset's declaration.
        case: its files.
        root: folder of the standard dataset.
        facts: of the patient, from the dataset's tables, in our columns.
        partial: whether structures that are drawn in part are taken too.
        labels_alone: whether labels without a CT are taken.
        unlabelled: whether CTs without a label are taken.
        label_map: what ids of a combined map of the release mean, where there are no masks.
        exact: for an export of ours, the structures that the case has annotated; None else.
        extra: for an export of ours, structure to the mask that its label map cannot hold.
    """

    source: Source
    case: FoundCase
    root: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    partial: bool = False
    labels_alone: bool = False
    unlabelled: bool = False
    label_map: LabelMap | None = None
    exact: tuple[str, ...] | None = None
    extra: Mapping[str, Path] = field(default_factory=dict)

    @property
    def case_id(self) -> str:
        """Its ID in the dataset."""
        return self.case.case_id

    @property
    def ct_path(self) -> Path:
        """Where the CT goes."""
        return Dataset(self.root, {}).image_path(self.case_id, self.case.split)

    @property
    def labels_path(self) -> Path:
        """The folder that the labels go to."""
        return Dataset(self.root, {}).labels_path(self.case_id, self.case.split)

    @property
    def labelset(self) -> LabelSet:
        """What its labels mean."""
        return self.source.labelsets[self.case.layout.labelset]


def import_case(job: Job) -> dict[str, Any]:
    """Make one case of the dataset; on any error nothing of it stays behind.

    Args:
        job: its payload is an `ImportPlan`.

    Returns:
        The record's data; `metadata` in it is the case's row.

    Raises:
        Skipped, Quarantined, PantskitError: With what was found, expected, and is to be done.
    """
    plan: ImportPlan = job.payload
    try:
        return _make(plan)
    except PantskitError as error:
        _remove(plan)
        raise type(error)(_told(error, plan), data=error.data) from None
    except BaseException:
        _remove(plan)
        raise


def _told(error: PantskitError, plan: ImportPlan) -> str:
    """The message with the case's ID, and files by their names alone."""
    message = str(error)
    for path in plan.case.files:
        message = message.replace(str(path), path.name)
    return f"{plan.case_id}: {message.removeprefix(f'{plan.case_id}: ')}"


def _make(plan: ImportPlan) -> dict[str, Any]:
    case = plan.case
    _require_both(plan)
    _leave_other_split(plan)
    scan = read_scan(case) if case.images else None
    labels, placed = _labels(plan, scan)
    grid = scan.volume.geometry if scan else placed and labels and labels.geometry
    assert isinstance(grid, Geometry)
    if scan:
        write_volume(plan.ct_path, scan.volume)
    data: dict[str, Any] = {"source": _source(plan, scan)}
    coded = placed.coded if placed else None
    lesion_negative = _lesion_negative(plan, coded)
    lesions = _lesions(coded, grid, lesion_negative=lesion_negative)
    if coded is not None and labels is not None and placed is not None:
        written = write_case_labels(Dataset(plan.root, {}), plan.case_id, case.split, coded, grid)
        data["labels"] = written | _about(plan, labels, placed)
        data["lesion_negative"] = lesion_negative
    if scan:
        data["hounsfield"] = scan.clipped.as_record()
        data["voxel_hash"] = voxel_hash(scan.volume)
    data["metadata"] = _row(plan, scan, coded, grid, lesions)
    data["geometry"] = {
        "shape": grid.shape,
        "spacing": grid.spacing,
        "affine": grid.affine,
        "orientation": grid.orientation,
        "source_orientation": scan.record["orientation"] if scan else None,
    }
    return data


def _require_both(plan: ImportPlan) -> None:
    """Refuse what lacks its CT or its label, unless that is wanted."""
    case = plan.case
    if case.fault:
        raise LabelError(case.fault)
    if not case.images and not plan.labels_alone:
        names = ", ".join(path.name for path in case.labels[:3])
        raise LabelError(
            f"its label ({names}) has no CT, though others have one: was the download whole? "
            "Where images and labels are two downloads, give both folders"
        )
    if not case.labels and not plan.unlabelled:
        if plan.source.unlabelled or not case.layout.annotation:
            raise Skipped("the source has no label for it; --unlabelled takes its CT alone")
        raise LabelError(
            f"its CT ({case.images[0].name}) has no label, expected {case.layout.annotation}: was "
            "the download whole? --unlabelled takes CTs without labels"
        )


def _labels(plan: ImportPlan, scan: Scan | None) -> tuple[Labels | None, Placed | None]:
    """The case's labels, and where they lie; None where it has none of our structures."""
    if not plan.case.labels:
        return None, None
    sex = plan.facts.get("sex")
    labels = read_labels(plan.case, plan.labelset, scan, sex=sex, label_map=plan.label_map)
    if plan.exact is not None:
        _as_exported(plan, labels)
    if not plan.partial:
        _leave_partial(plan.labelset, labels)
    if scan is None:
        own = Volume(labels.coded.codes, labels.geometry).reoriented()
        placed = Placed(labels.coded.mapped(lambda _: own.array))
        labels.geometry = own.geometry
    else:
        placed = place(labels, scan.volume, flips=plan.source.flips)
        labels.geometry = scan.volume.geometry
    coded, grid = placed.coded, labels.geometry
    middle = middle_of(scan.volume) if scan else Middle(_mean_of_grid(grid), sure=False)
    placed.notes.extend(split_sides(coded, grid, middle))
    placed.sides.update(require_sides(coded, grid, middle))
    if scan and middle.sure and not {"liver", "spleen"} & set(placed.sides):
        placed.sides.update(require_liver_on_the_right(scan.volume, coded, middle.x))
    return (labels, placed) if coded.annotated else (labels, None)


def _mean_of_grid(grid: Geometry) -> float:
    return float(grid.corners[:, 0].mean())


def _as_exported(plan: ImportPlan, labels: Labels) -> None:
    """Of an export of ours: the structures that were annotated, each exactly as it was."""
    wanted = frozenset(plan.exact or ())
    from_map = wanted - set(plan.extra)
    coded = labels.coded
    coded.sets = [names & from_map for names in coded.sets]
    coded.annotated = set(from_map)
    for structure, path in plan.extra.items():
        mask = read_mask(path)
        if not mask.geometry.same_grid(labels.geometry):
            raise LabelError(f"mask of {structure} and label map of the export differ in grid")
        coded.add(structure, mask.array)


def _leave_partial(labelset: LabelSet, labels: Labels) -> None:
    """Take out structures that are not drawn whole: what they lack would become background."""
    left = {s for s in labelset.partial if s in labels.coded.annotated}
    for structure in sorted(left):
        labels.faults.append(f"{structure} is left out: {labelset.partial[structure]}")
        labels.made_of.pop(structure, None)
    labels.coded.sets = [names - left for names in labels.coded.sets]
    labels.coded.annotated -= left


def _lesion_negative(plan: ImportPlan, coded: CodedMasks | None) -> bool | None:
    """Whether the scan is known to show no pancreatic tumour; None where nobody says so."""
    drawn = coded.counts.get(LESION) if coded else None
    if drawn:
        return False
    return True if drawn == 0 or plan.source.lesion_negative else None


def _lesions(
    coded: CodedMasks | None, grid: Geometry, *, lesion_negative: bool | None
) -> int | None:
    mask = coded.mask(LESION) if coded else None
    if mask is None:
        return 0 if lesion_negative else None
    return len(components(mask, grid.affine)[1])


def _source(plan: ImportPlan, scan: Scan | None) -> dict[str, Any]:
    case = plan.case
    return {
        "dataset": plan.source.name,
        "layout": case.layout.name,
        "images": len(case.images),
        "files": [path.name for path in (*case.images[:1], *case.labels[:1])],
        **(scan.record if scan else {"format": None}),
    }


def _about(plan: ImportPlan, labels: Labels, placed: Placed) -> dict[str, Any]:
    """What the record says of the labels beside what was written."""
    structures = placed.coded.structures
    made_of = {
        s: labels.made_of.get(s) or labels.made_of.get(s.rpartition("_")[0], []) for s in structures
    }
    origin = plan.case.layout.origin or plan.source.origin
    origins = {s: plan.source.origins.get(s, origin) for s in structures}
    second = second_label_notes(plan.source, plan.case, plan.facts.get("sex"))
    return {
        "made_of": made_of,
        "united": {s: names for s, names in made_of.items() if len(names) > 1},
        "origin": origins,
        "unmapped": labels.unmapped,
        "empty": [s for s, count in placed.coded.counts.items() if not count],
        "flip": placed.flip,
        "off_mm": round(placed.off_mm, 4),
        "organ_voxels_with_organ_hu": placed.fit and round(placed.fit.inside, 4),
        "sides": placed.sides,
        "faults": [*labels.faults, *placed.notes, *second],
    }


def _row(
    plan: ImportPlan,
    scan: Scan | None,
    coded: CodedMasks | None,
    grid: Geometry,
    lesions: int | None,
) -> dict[str, Any]:
    """The case's row: what the source's table says, else the header, else the voxels."""
    given = {k: v for k, v in plan.facts.items() if v is not None}
    more: dict[str, Any] = {}
    facts = scan.facts if scan else describe_header({})
    if scan:
        organs = measure_organs(scan.volume.array, coded) if coded else None
        phase = decide_phase(facts.get("phase"), facts.get("phase_reason", ""), organs)
        more = {**phase.columns(), **look_at(scan.volume, coded).columns()}
    if "phase" in given and "phase_source" not in given:
        more["phase_source"] = "label"
    return metadata_row(
        facts,
        grid,
        case_id=plan.case_id,
        patient_id=str(given.pop("patient_id", None) or plan.case.patient_id),
        split=plan.case.split,
        site=str(given.pop("site", None) or plan.source.name),
        lesions=lesions,
        **{**more, **{k: v for k, v in given.items() if k not in _OWN}},
    )


# Columns that are told from the case itself.
_OWN = ("case_id", "split", "shape", "spacing", "lesions", *STRUCTURES)


def _leave_other_split(plan: ImportPlan) -> None:
    """Take away what an earlier import with another --split left of the case."""
    dataset = Dataset(plan.root, {})
    for split in set(SPLITS) - {plan.case.split}:
        shutil.rmtree(dataset.image_path(plan.case_id, split).parent, ignore_errors=True)
        shutil.rmtree(dataset.labels_path(plan.case_id, split), ignore_errors=True)


def _remove(plan: ImportPlan) -> None:
    shutil.rmtree(plan.ct_path.parent, ignore_errors=True)
    shutil.rmtree(plan.labels_path, ignore_errors=True)
    Dataset(plan.root, {}).records.path("labels", plan.case_id).unlink(missing_ok=True)
