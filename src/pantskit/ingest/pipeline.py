"""From sources to a dataset: plan the cases, make them, and write the tables."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pantskit.core.dataset import SPLITS, Dataset
from pantskit.core.errors import ConfigError, PantskitError
from pantskit.core.files import content_hash
from pantskit.core.labels import STRUCTURES, LabelMap
from pantskit.core.records import CaseRecord
from pantskit.core.run import Job, RunSummary, run_cases
from pantskit.ingest.case import CasePlan, ingest_case, leak_scan, remove_outputs
from pantskit.ingest.deidentify import Pseudonyms, describe_header, patient_secret, read_key
from pantskit.ingest.discover import Found, discover, discover_labels
from pantskit.ingest.masks import LabelSource, match_labels, nifti_stem
from pantskit.ingest.series import Series
from pantskit.ingest.sources import Reader, SourceFile

STAGE = "ingest"

# Raised when the same input would give another case: earlier records then no longer count.
RECIPE = 1


@dataclass(frozen=True)
class IngestSettings:
    """How sources become cases.

    Attributes:
        labels: annotations: a label map, a folder of masks, DICOM masks; None without.
        label_map: what the ids of label maps mean, as `--label-map` takes it.
        resample_labels: whether labels on another grid are resampled instead of refused.
        split: `"train"` or `"test"`.
        site: name of the site for these sources; None gives each institution a pseudonym.
        name: of a new dataset.
        key: file of the key of the pseudonyms; None is `<dataset>.key` beside it.
        workers: processes.
        timeout_s: a case that takes longer is failed.
    """

    labels: Path | None = None
    label_map: str | None = None
    resample_labels: bool = False
    split: str = "train"
    site: str | None = None
    name: str | None = None
    key: Path | None = None
    workers: int = 1
    timeout_s: float | None = 1800.0


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


@dataclass(frozen=True)
class IngestSummary:
    """What became of a run.

    Attributes:
        run: the records.
        planned: case_id to its plan.
        others: number of files that are neither DICOM nor NIfTI.
        unused_labels: annotations that no case took, by their first name.
        copies: sources with the content of another one, which were left.
    """

    run: RunSummary
    planned: dict[str, Planned] = field(default_factory=dict)
    others: int = 0
    unused_labels: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


def ingest(
    sources: Sequence[Path],
    out: Path,
    settings: IngestSettings,
    *,
    progress: Callable[[CaseRecord, int, int], None] | None = None,
) -> IngestSummary:
    """Add the CTs of some sources to a dataset.

    Args:
        sources: folders, DICOM or NIfTI files, zip archives of DICOM.
        out: folder of the dataset; made where it is not there yet.
        settings: how.
        progress: called after each case.

    Raises:
        ConfigError, LabelError, DatasetError: If there is nothing to do or nowhere to put it;
            nothing is written then. What is wrong with one case becomes its record instead.
    """
    if settings.split not in SPLITS:
        raise ConfigError(f"split {settings.split!r} is unknown; it is {' or '.join(SPLITS)}")
    if settings.label_map:
        LabelMap.parse(settings.label_map)
    found = look(sources, settings)
    labels: list[LabelSource] = []
    if settings.labels:
        # An archive that holds scans and masks is looked through once.
        archive = (
            found if list(sources) == [settings.labels] and settings.labels.is_file() else None
        )
        labels = discover_labels(settings.labels, [f.path for f in found.nifti], archive)
        found.series = _without_annotations(found.series, labels)
    existed = out.exists()
    dataset = Dataset.create(out, name=settings.name, annotated=())
    try:
        pseudonyms = open_pseudonyms(dataset, settings)
        planned, copies = plan_cases(found, out, pseudonyms, settings)
        planned, unused = _with_labels(planned, labels)
        _require_whole_patients(dataset, planned, settings.split)
    except PantskitError:
        if not existed:
            (out / "dataset.json").unlink(missing_ok=True)
            out.rmdir()
        raise
    summary = run_cases(
        ingest_case,
        [_job(p, dataset) for p in planned.values()],
        stage=STAGE,
        store=dataset.records,
        settings=_fingerprinted(settings),
        workers=settings.workers,
        timeout_s=settings.timeout_s,
        progress=progress,
    )
    write_tables(dataset)
    summary = _fail_leaks(dataset, summary, planned)
    return IngestSummary(summary, planned, found.others, unused, copies)


def look(sources: Sequence[Path], settings: IngestSettings) -> Found:
    """What the sources hold; the folder of annotations is left out.

    Raises:
        ConfigError: If a source is missing, or nothing in them is DICOM or NIfTI.
    """
    found = discover(sources, leave=settings.labels)
    if found.empty:
        names = ", ".join(str(s) for s in sources)
        raise ConfigError(f"{names}: no DICOM and no NIfTI among its {found.others} files")
    return found


def _without_annotations(series: list[Series], labels: Sequence[LabelSource]) -> list[Series]:
    """The series without those that `--labels` takes as masks."""
    taken = {h.file for source in labels for _, slices in source.series for h in slices}
    return [s for s in series if s.first.file not in taken]


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
    found: Found, out: Path, pseudonyms: Pseudonyms, settings: IngestSettings
) -> tuple[dict[str, Planned], tuple[str, ...]]:
    """A plan for every series and file.

    Returns:
        case_id to plan, and the sources that are copies of one planned before.
    """
    planned: dict[str, Planned] = {}
    copies: list[str] = []
    for item in _items(found, _Common(out, pseudonyms, settings)):
        if item.plan.case_id in planned:
            copies.append(item.place)
        planned.setdefault(item.plan.case_id, item)
    return planned, tuple(copies)


def _with_labels(
    planned: dict[str, Planned], labels: Sequence[LabelSource]
) -> tuple[dict[str, Planned], tuple[str, ...]]:
    """The plans with their annotations, and the names of annotations that no case took.

    Raises:
        ConfigError: If annotations fit no case, or several fit one.
    """
    wanting = {
        case_id: (item.label_keys, item.folder)
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
            plan=replace(item.plan, labels=source),
            inputs=tuple(dict.fromkeys((*item.inputs, *source.paths))),
        )
    unused = [s.keys[0] for s in labels if s not in matched.values()]
    return planned, tuple(sorted(unused))


def _require_whole_patients(dataset: Dataset, planned: dict[str, Planned], split: str) -> None:
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

    def plan(self, identity: str, patient: str, site: str, **rest: Any) -> CasePlan:
        settings = self.settings
        return CasePlan(
            case_id=self.pseudonyms.of("case", identity),
            patient_id=self.pseudonyms.of("patient", patient),
            site=settings.site or self.pseudonyms.of("site", site),
            split=settings.split,
            root=self.out,
            label_map=settings.label_map,
            resample_labels=settings.resample_labels,
            **rest,
        )


def _items(found: Found, common: _Common) -> Iterator[Planned]:
    scans = Counter(_patient(s) for s in found.series if not (s.skip or s.fault))
    for series in found.series:
        yield _plan_series(series, common, alone=scans[_patient(series)] <= 1)
    for file in found.nifti:
        yield _plan_nifti(file, common)
    for bad in found.bad:
        plan = common.plan(f"file:{bad.file}", f"file:{bad.file}", "", fault=bad.message)
        yield Planned(plan, str(bad.file), (), (), bad.file.folder)


def _patient(series: Series) -> str:
    return patient_secret(series.first.description, series.identity)


def _plan_series(series: Series, common: _Common, *, alone: bool) -> Planned:
    description = series.first.description
    paths = tuple(sorted({s.file.path for s in series.slices}))
    identity = series.identity or _content(series)
    plan = common.plan(
        f"series:{identity}",
        patient_secret(description, identity),
        description.get("InstitutionName", ""),
        slices=series.slices,
        skip=series.skip,
        fault=series.fault,
        doubt=series.doubt,
        facts=describe_header(description),
        identifiers=series.identifiers,
    )
    folder = series.first.file.folder
    patient_id = description.get("PatientID", "")
    number = description.get("SeriesNumber", "")
    keys = [f"{patient_id}_{number}", folder.name, folder.name.removesuffix(".zip")]
    # A patient's name for labels is clear only where the patient has one CT here.
    keys += [patient_id] if alone and patient_id else []
    place = f"{folder} ({len(series.slices)} files)"
    return Planned(plan, place, paths, tuple(keys), folder)


def _content(series: Series) -> str:
    """Identity by content, for series without UIDs."""
    digests = []
    with Reader() as reader:
        for header in series.slices:
            with reader.read(header.file) as stream:
                digests.append(hashlib.sha256(stream.read()).hexdigest())
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def _plan_nifti(file: SourceFile, common: _Common) -> Planned:
    identity = f"nifti:{content_hash(file.path)}"
    stem = nifti_stem(file.path)
    plan = common.plan(
        identity,
        identity,
        "",
        nifti=file,
        facts=describe_header({}),
        identifiers={stem.lower(): "file name"} if len(stem) > 5 else {},
    )
    keys = (stem, stem.removesuffix("_0000"), file.folder.name)
    return Planned(plan, str(file), (file.path,), keys, file.folder)


def _job(item: Planned, dataset: Dataset) -> Job:
    plan = item.plan
    outputs = [dataset.image_path(plan.case_id, plan.split)]
    if plan.labels:
        outputs.append(dataset.labels_path(plan.case_id, plan.split) / "combined_labels.nii.gz")
    return Job(plan.case_id, plan, item.inputs, tuple(outputs))


def _fingerprinted(settings: IngestSettings) -> dict[str, Any]:
    """The settings that change what a case becomes."""
    names = ("resample_labels", "split", "site")
    label_map = asdict(LabelMap.parse(settings.label_map)) if settings.label_map else None
    return {n: getattr(settings, n) for n in names} | {"label_map": label_map, "recipe": RECIPE}


def write_tables(dataset: Dataset) -> None:
    """Write metadata and dataset.json from the records of all cases made so far."""
    done = [r for r in dataset.records.all(STAGE) if r.status == "done"]
    rows = dict(dataset.metadata)
    for record in dataset.records.all(STAGE):
        rows.pop(record.case_id, None)
    rows |= {r.case_id: r.data["metadata"] for r in done}
    dataset.write_metadata(rows.values())
    labelled = [r.data["labels"]["voxels"] for r in done if r.data.get("labels")]
    # A structure counts as annotated in the dataset when it is in every labelled case.
    annotated = [s for s in STRUCTURES if labelled and all(s in voxels for voxels in labelled)]
    dataset.info["annotated"] = annotated
    dataset.write_info()


def _fail_leaks(dataset: Dataset, summary: RunSummary, planned: dict[str, Planned]) -> RunSummary:
    """Scan records and table rows as they were written; a leak takes its case away."""
    records = []
    for record in summary.records:
        plan = planned[record.case_id].plan
        scan = leak_scan(plan)
        leaks = scan.value(asdict(record), "record") if record.case_id in summary.ran else []
        leaks += scan.value(dataset.metadata.get(record.case_id, {}), "metadata")
        if leaks:
            remove_outputs(plan)
            found = f"{leaks[0].attribute} in {leaks[0].place}"
            message = f"{record.case_id}: the leak scan found {found}; nothing of it was kept"
            record = replace(record, status="failed", message=message, data={}, outputs=())
            dataset.records.write(record)
        records.append(record)
    if tuple(records) != summary.records:
        write_tables(dataset)
    return replace(summary, records=tuple(records))
