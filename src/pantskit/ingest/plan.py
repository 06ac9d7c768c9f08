"""What is to become a case, and under which pseudonym: from series and files to plans."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError, ImageError
from pantskit.core.files import content_hash
from pantskit.core.nrrd import files_of_volume
from pantskit.ingest.dicom.headers import ImageHeader
from pantskit.ingest.discovery.archives import archive_stem
from pantskit.ingest.discovery.discover import Found
from pantskit.ingest.discovery.series import Series
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.facts.clinical import ClinicalJoin, complete_facts
from pantskit.ingest.facts.describe import describe_header
from pantskit.ingest.labels.sources import (
    LabelSource,
    LabelTarget,
    match_labels,
    unused_labels,
    volume_stem,
)
from pantskit.ingest.privacy.deidentify import Pseudonyms, patient_secret, read_key, shifted_date
from pantskit.ingest.privacy.identifiers import Identifiers, path_identifiers
from pantskit.ingest.settings import IngestSettings

# Memory of a worker: Python with its libraries; a voxel of the CT as int16 with its compressed
# file and some slack; a voxel of codes, of one mask being read, and of its file.
_BASE_MB, _CT_BYTES, _LABEL_BYTES = 300.0, 4, 4


@dataclass(frozen=True)
class CasePlan:
    """All that a worker needs to make one case.

    Attributes:
        case_id, patient_id, site: pseudonyms (the site may be a name that was given).
        split: `"train"` or `"test"`.
        root: folder of the dataset.
        slices: headers of a DICOM series; empty for a volume file.
        volume: the NIfTI or NRRD file; None for DICOM.
        skip: why it is no CT volume of anatomy; raised as `Skipped`.
        fault: what is wrong with it already; raised as a failure.
        doubt: why it may not be whole; raised as `Quarantined`, after what its slices tell.
        facts: from `describe_header`, completed by the clinical table.
        moved_date: date of the study, moved by the patient's own number of days; None where it is
            not known.
        clinical_faults: where the clinical table contradicts itself or the header.
        identifiers: values that must not come out.
        labels: where its annotations lie, or None.
        settings: of the run.
        pseudonyms: to write de-identified DICOM with; None where none is asked for.
    """

    case_id: str
    patient_id: str
    site: str
    split: str
    root: Path
    slices: tuple[ImageHeader, ...] = ()
    volume: SourceFile | None = None
    skip: str = ""
    fault: str = ""
    doubt: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    moved_date: str | None = None
    clinical_faults: tuple[str, ...] = ()
    identifiers: Identifiers = field(default_factory=dict)
    labels: LabelSource | None = None
    settings: IngestSettings = field(default_factory=IngestSettings)
    pseudonyms: Pseudonyms | None = None

    @property
    def ct_path(self) -> Path:
        """Where the CT goes."""
        return Dataset(self.root, {}).image_path(self.case_id, self.split)

    @property
    def labels_path(self) -> Path:
        """The folder that the labels go to."""
        return Dataset(self.root, {}).labels_path(self.case_id, self.split)

    @property
    def export_path(self) -> Path | None:
        """The folder that de-identified DICOM goes to; None where none is asked for."""
        folder = self.settings.export_dicom
        return folder / self.case_id if folder and self.slices else None

    @property
    def memory_mb(self) -> float:
        """What its worker will take at most: by the size of the volume, before a pixel is read."""
        if not self.slices:
            return 0.0 if self.volume is None else _BASE_MB + 12 * _file_mb(self.volume)
        voxels = sum(h.rows * h.columns * h.frames for h in self.slices)
        per_voxel = _CT_BYTES + (_LABEL_BYTES if self.labels else 0)
        return _BASE_MB + voxels * per_voxel / 2**20


@dataclass(frozen=True)
class Planned:
    """A case and where it comes from; the place is for the terminal and never written.

    Attributes:
        plan: what a worker gets.
        place: the source, for people at the terminal.
        inputs: files whose content decides whether the case has to be made again.
        label_keys: names its annotations may go by, the most telling first.
        folder: where it lies.
    """

    plan: CasePlan
    place: str
    inputs: tuple[Path, ...]
    label_keys: tuple[str, ...]
    folder: PurePosixPath


def open_pseudonyms(dataset: Dataset, settings: IngestSettings) -> Pseudonyms:
    """The pseudonyms of a dataset, by the key that is kept outside it.

    Raises:
        ConfigError: If the key lies inside the dataset, is lost, or is another dataset's.
    """
    root = dataset.root.resolve()
    path = settings.key or root.with_name(f"{root.name}.key")
    if path.resolve().is_relative_to(root):
        raise ConfigError(f"{path}: the key must not lie inside the dataset; choose another --key")
    expected = dataset.info.get("key_check")
    if expected and not path.exists():
        raise ConfigError(
            f"{path}: the key of this dataset is missing; without it the same patients would get "
            "new names. Give its place with --key"
        )
    key = read_key(path)
    check = hmac.new(key, b"pantskit key check", hashlib.sha256).hexdigest()[:12]
    if expected and check != expected:
        raise ConfigError(f"{path}: is the key of another dataset; give the right one with --key")
    dataset.info["key_check"] = check
    dataset.write_info()
    return Pseudonyms(key)


def plan_cases(
    found: Found,
    out: Path,
    pseudonyms: Pseudonyms,
    settings: IngestSettings,
    clinical: ClinicalJoin | None = None,
) -> tuple[dict[str, Planned], tuple[str, ...]]:
    """A plan for every series and file.

    Args:
        found: what the sources hold.
        out: the dataset.
        pseudonyms: of its key.
        settings: of the run.
        clinical: what a clinical table says of the patients; None without one.

    Returns:
        case_id to plan, and the sources that are copies of one planned before.
    """
    planned: dict[str, Planned] = {}
    copies: list[str] = []
    for item in _items(found, _Common(out, pseudonyms, settings, clinical)):
        if item.plan.case_id in planned:
            copies.append(item.place)
        planned.setdefault(item.plan.case_id, item)
    return planned, tuple(copies)


def with_labels(
    planned: dict[str, Planned], labels: Sequence[LabelSource]
) -> tuple[dict[str, Planned], tuple[str, ...]]:
    """The plans with their annotations, and the names of annotations that no case took.

    Raises:
        ConfigError: If annotations fit no case, or several fit one.
    """
    wanting = {
        case_id: LabelTarget.of(item.label_keys, item.folder, item.plan.slices)
        for case_id, item in planned.items()
        if not (item.plan.skip or item.plan.fault)
    }
    if not labels or not wanting:
        return planned, ()
    matched = match_labels(wanting, labels)
    planned = dict(planned)
    for case_id, source in matched.items():
        item = planned[case_id]
        planned[case_id] = replace(
            item,
            plan=replace(
                item.plan,
                labels=source,
                identifiers={**source.identifiers, **item.plan.identifiers},
            ),
            inputs=tuple(dict.fromkeys((*item.inputs, *source.paths))),
        )
    return planned, unused_labels(matched, labels)


def require_whole_patients(dataset: Dataset, planned: dict[str, Planned], split: str) -> None:
    """Refuse to put a patient into a second split: a model would be tested on what it has seen.

    Raises:
        ConfigError: If a patient of these sources is in the other split already.
    """
    elsewhere = {r.get("patient_id") for r in dataset.metadata.values() if r.get("split") != split}
    plans = (item.plan for item in planned.values() if not item.plan.skip)
    both = {plan.patient_id for plan in plans} & elsewhere
    if both:
        raise ConfigError(
            f"{len(both)} patients of these sources are in another split of {dataset.root} "
            f"already ({', '.join(sorted(both)[:3])}); a patient stays in one split: "
            f"leave --split {split} out or take their cases away first"
        )


@dataclass(frozen=True)
class _Common:
    """What all plans of a run share."""

    out: Path
    pseudonyms: Pseudonyms
    settings: IngestSettings
    clinical: ClinicalJoin | None = None

    def plan(self, identity: str, patient: str, site: str, **rest: Any) -> CasePlan:
        settings = self.settings
        return CasePlan(
            case_id=self.pseudonyms.of("case", identity),
            patient_id=self.pseudonyms.of("patient", patient),
            site=settings.site or self.pseudonyms.of("site", site),
            split=settings.split,
            root=self.out,
            settings=settings,
            pseudonyms=self.pseudonyms if settings.export_dicom else None,
            **rest,
        )


def _items(found: Found, common: _Common) -> Iterator[Planned]:
    scans = Counter(_patient(s) for s in found.series if not (s.skip or s.fault))
    for series in found.series:
        yield _plan_series(series, common, alone=scans[_patient(series)] <= 1)
    with Reader() as reader:
        for file in found.volumes:
            yield _plan_volume(file, common, reader)
    for bad in found.bad:
        plan = common.plan(f"file:{bad.file}", f"file:{bad.file}", "", fault=bad.message)
        yield Planned(plan, str(bad.file), (), (), bad.file.folder)


def _patient(series: Series) -> str:
    return patient_secret(series.first.description, series.identity)


def _plan_series(series: Series, common: _Common, *, alone: bool) -> Planned:
    description = series.first.description
    files = dict.fromkeys(s.file for s in series.slices)
    identity = series.identity or f"file:{series.first.file}"
    facts = describe_header(description)
    identifiers = {**path_identifiers(f.place for f in files), **series.identifiers}
    faults: list[str] = []
    if common.clinical is not None:
        patient_id = description.get("PatientID", "")
        row = common.clinical.row_for(patient_id, description.get("StudyDate", ""))
        facts, faults = complete_facts(facts, row)
        faults += common.clinical.faults_for(patient_id)
        identifiers = {**common.clinical.identifiers_for(patient_id), **identifiers}
    secret = patient_secret(description, identity)
    days = common.pseudonyms.shift_days(common.pseudonyms.of("patient", secret))
    plan = common.plan(
        f"series:{identity}",
        secret,
        description.get("InstitutionName", ""),
        slices=series.slices,
        skip=series.skip,
        fault=series.fault,
        doubt=series.doubt,
        facts=facts,
        moved_date=shifted_date(description.get("StudyDate"), days),
        clinical_faults=tuple(faults),
        identifiers=identifiers,
    )
    paths = tuple(sorted({f.path for f in files}))
    folder = series.first.file.folder
    patient_id = description.get("PatientID", "")
    number = description.get("SeriesNumber", "")
    keys = [f"{patient_id}_{number}", folder.name, archive_stem(folder.name)]
    # A patient's name for labels is clear only where the patient has one CT here.
    keys += [patient_id] if alone and patient_id else []
    return Planned(plan, series.place, paths, tuple(keys), folder)


def _plan_volume(file: SourceFile, common: _Common, reader: Reader) -> Planned:
    try:
        with reader.local(file) as path:
            # Of a detached header the voxels tell one scan from another.
            identity = ":".join(("nifti", *map(content_hash, files_of_volume(path))))
        fault = ""
    except (OSError, ImageError) as error:
        identity, fault = f"file:{file}", str(error)
    stem = volume_stem(file.name)
    plan = common.plan(
        identity,
        identity,
        "",
        volume=file,
        fault=fault,
        facts=describe_header({}),
        identifiers=path_identifiers([file.place]),
    )
    keys = (stem, stem.removesuffix("_0000"), file.folder.name)
    return Planned(plan, str(file), _files_of(file), keys, file.folder)


def _files_of(file: SourceFile) -> tuple[Path, ...]:
    """Files on disk that hold a volume; the archive of one that is in one."""
    return (file.path,) if file.member else files_of_volume(file.path)


def _file_mb(file: SourceFile) -> float:
    """Size of a volume's files; 0 where it cannot be told."""
    try:
        return sum(path.stat().st_size for path in _files_of(file)) / 2**20
    except OSError:
        return 0.0
