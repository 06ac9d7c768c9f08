"""A standard dataset written for other programs, so that nothing is lost on the way back.

    nnunet  imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz, imagesTs/, labelsTs/, dataset.json
    monai   the same without _0000, and datalist.json with training and test
    flat    images/<case>.nii.gz, labels/<case>.nii.gz; ids of the release's README, declared

A label map holds one id a voxel, and our masks overlap. Structures that the map does not give back
exactly are written beside it, as overlaps/<case>/<structure>.nii.gz, and pantskit.json says what
each case has annotated. What a case has not annotated is not background: all its background is
`ignore` then.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.core.codedmasks import CodedMasks, ids_of
from pantskit.core.dataset import Case, Dataset
from pantskit.core.errors import ConfigError, DatasetError, LabelError
from pantskit.core.files import atomic_path, write_json
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS, STRUCTURES, LabelArray, LabelSpace, require_structure
from pantskit.core.records import RecordStore
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.core.volume import Volume
from pantskit.core.writing import write_labels, write_volume
from pantskit.ingest.sources.common_formats import COMMON_FORMATS, IGNORE, OVERLAPS, SIDECAR

STAGE = "export"
_FOLDERS = {"train": "Tr", "test": "Ts"}
_DATALIST = "datalist.json"


@dataclass(frozen=True)
class ExportSettings:
    """How a dataset is exported.

    Attributes:
        format: one of `COMMON_FORMATS`.
        structures: of the label map; None for those that every case has annotated.
        split: `"train"` or `"test"`; None for both.
        link: link to the CTs (symbolic links) instead of copying them.
        workers: processes; 0 runs in this one.
    """

    format: str = "nnunet"
    structures: tuple[str, ...] | None = None
    split: str | None = None
    link: bool = False
    workers: int = 1


@dataclass(frozen=True)
class ExportSummary:
    """What became of an export.

    Attributes:
        run: the records.
        labels: id in the label maps to structure, `ignore` included.
    """

    run: RunSummary
    labels: dict[int, str]


@dataclass(frozen=True)
class _Task:
    case: Case
    out: Path
    format: str
    space: LabelSpace
    ignore: bool
    link: bool
    labelled: bool

    @property
    def image(self) -> Path:
        name = f"{self.case.case_id}{'_0000' if self.format == 'nnunet' else ''}.nii.gz"
        return self.out / self._folder("images") / name

    @property
    def label(self) -> Path:
        return self.out / self._folder("labels") / f"{self.case.case_id}.nii.gz"

    def _folder(self, kind: str) -> str:
        if self.format == "flat":
            return kind
        # nnU-Net wants a label for every image of imagesTr.
        return f"{kind}{_FOLDERS[self.case.split if self.labelled else 'test']}"


def export_dataset(
    dataset: Dataset, out: Path, settings: ExportSettings, *, progress: Progress | None = None
) -> ExportSummary:
    """Write a dataset as nnU-Net's raw data, a MONAI datalist or flat label maps.

    Args:
        dataset: ours or the public release.
        out: a new folder, or one of an earlier export, of which only what changed is written.
        settings: how.
        progress: called after each case.

    Raises:
        ConfigError, LabelError, DatasetError: If the format is unknown, no structure can be in the
            map, or the folder holds something else.
    """
    if settings.format not in COMMON_FORMATS:
        raise ConfigError(
            f"format {settings.format!r} is unknown; it is {', '.join(COMMON_FORMATS)}"
        )
    _require_ours(out)
    cases = dataset.cases(settings.split)
    if not cases:
        raise DatasetError(f"{dataset.root}: has no case to export")
    annotated = {c.case_id: _annotated(c) for c in cases}
    space, ignore = _space(settings, [a for a in annotated.values() if a])
    tasks = [
        _Task(c, out, settings.format, space, ignore, settings.link, bool(annotated[c.case_id]))
        for c in cases
    ]
    run = run_cases(
        _export_case,
        [_job(task, annotated[task.case.case_id]) for task in tasks],
        stage=STAGE,
        store=RecordStore(out),
        settings={"space": dict(space.ids), "ignore": ignore, **asdict(settings), "workers": 0},
        workers=settings.workers,
        progress=progress,
    )
    labels = dict(space.ids) | ({len(space.ids) + 1: IGNORE} if ignore else {})
    _write_indexes(dataset, out, settings, tasks, run, labels)
    return ExportSummary(run, labels)


def _require_ours(out: Path) -> None:
    ours = (out / SIDECAR).is_file() or (out / ".pantskit" / "records" / STAGE).is_dir()
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise DatasetError(f"{out}: is not empty and no export of ours; give a new folder")


def _annotated(case: Case) -> tuple[str, ...]:
    labels = case.labels()
    return labels.structures() if labels else ()


def _space(
    settings: ExportSettings, annotated: Sequence[tuple[str, ...]]
) -> tuple[LabelSpace, bool]:
    """The label space of the maps, and whether some cases need `ignore`."""
    if settings.format == "flat" and settings.structures is None:
        return PANTS, False
    if settings.structures is not None:
        chosen = tuple(require_structure(s) for s in settings.structures)
        wanted = tuple(s for s in STRUCTURES if s in chosen)
    else:
        wanted = tuple(s for s in STRUCTURES if annotated and all(s in a for a in annotated))
    if not wanted:
        raise LabelError(
            "no structure is annotated in every case, so no label map can hold all; choose some "
            "with --structures (where a case has not annotated one, its background is ignored)"
        )
    space = LabelSpace("export", dict(enumerate(wanted, 1)))
    return space, any(set(wanted) - set(a) for a in annotated)


def _job(task: _Task, annotated: tuple[str, ...]) -> Job:
    labels = task.case.labels()
    inputs = [task.case.image_path] if task.case.image_path.is_file() else []
    outputs = [task.image] if inputs else []
    if annotated:
        outputs.append(task.label)
    return Job(
        task.case.case_id,
        task,
        (*inputs, *(labels.paths if labels else ())),
        tuple(outputs),
        [task.case.split],
    )


def _export_case(job: Job) -> dict[str, Any]:
    task: _Task = job.payload
    case = task.case
    if case.image_path.is_file():
        _put(case.image_path, task.image, link=task.link)
    labels = case.labels()
    structures = labels.structures() if labels else ()
    if labels is None or not structures:
        return {"annotated": [], "masks": []}
    coded = CodedMasks.empty(labels.geometry.shape)
    for structure in structures:
        mask = labels.mask(structure)
        if mask is not None:
            coded.add(structure, mask)
    beside = [s for s in structures if s not in coded.exact(task.space)]
    missing = set(task.space.names) - set(structures)
    _write_map(task, coded, labels.geometry, ignore=task.ignore and bool(missing))
    folder = task.out / OVERLAPS / case.case_id
    shutil.rmtree(folder, ignore_errors=True)
    for structure in beside:
        write_labels(folder / f"{structure}.nii.gz", labels.geometry, coded.pieces({structure: 1}))
    return {"annotated": list(structures), "masks": beside}


def _write_map(task: _Task, coded: CodedMasks, grid: Geometry, *, ignore: bool) -> None:
    if task.space is PANTS or task.space.ids == PANTS.ids:
        write_labels(task.label, grid, coded.pieces(ids_of(PANTS)), label_space=PANTS.name)
        return
    if not ignore:
        write_labels(task.label, grid, coded.pieces(ids_of(task.space)))
        return
    painted: LabelArray = coded.combined(task.space)
    painted[painted == 0] = np.uint8(len(task.space.ids) + 1)
    write_volume(task.label, Volume(painted, grid))


def _put(source: Path, target: Path, *, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target, flush=not link) as part:
        if link:
            part.unlink()
            part.symlink_to(source.resolve())
        else:
            shutil.copyfile(source, part)


def _write_indexes(
    dataset: Dataset,
    out: Path,
    settings: ExportSettings,
    tasks: Sequence[_Task],
    run: RunSummary,
    labels: dict[int, str],
) -> None:
    """The files by which other programs, and our import, know what is there."""
    done = {r.case_id: r.data for r in run.records if r.status == "done"}
    written = [task for task in tasks if task.case.case_id in done]
    write_json(
        out / SIDECAR,
        {
            "format": settings.format,
            "dataset": dataset.info.get("name", dataset.root.name),
            "sources": dataset.info.get("sources", {}),
            "labels": labels,
            "cases": {
                t.case.case_id: {
                    "split": t.case.split,
                    **done[t.case.case_id],
                    "row": dataset.metadata.get(t.case.case_id, {}),
                }
                for t in written
            },
        },
    )
    names = {"background": 0, **{s: i for i, s in labels.items()}}
    train = [t for t in written if t.case.split == "train" and t.labelled]
    if settings.format == "nnunet":
        index = {
            "channel_names": {"0": "CT"},
            "labels": names,
            "numTraining": len(train),
            "file_ending": ".nii.gz",
        }
        write_json(out / "dataset.json", index)
    elif settings.format == "monai":
        index = {
            "labels": {str(i): s for s, i in names.items()},
            "training": list(_entries(train, out)),
            "test": list(_entries([t for t in written if t not in train], out)),
        }
        write_json(out / _DATALIST, index)
    else:
        held = [set(done[t.case.case_id]["annotated"]) for t in written if t.labelled]
        index = {"annotated": [s for s in STRUCTURES if held and all(s in h for h in held)]}
        index |= {"label_space": PANTS.name} if labels == dict(PANTS.ids) else {"labels": names}
        write_json(out / "dataset.json", index)


def _entries(tasks: Sequence[_Task], out: Path) -> Iterator[dict[str, str]]:
    for task in tasks:
        files = {"image": task.image, "label": task.label}
        yield {k: f"./{p.relative_to(out)}" for k, p in files.items() if p.exists()}
