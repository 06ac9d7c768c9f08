"""Mend what is certain, as a new version of a dataset: never over the original."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.check.dataset import chosen_cases, lies_in
from pantskit.check.read import CaseFiles, beside, grouped, read_case
from pantskit.check.rules.shape import ONE_PIECE, strays
from pantskit.check.scan import Scan
from pantskit.core.codedmasks import CodedMasks
from pantskit.core.copies import read_copies, write_copies
from pantskit.core.dataset import Case, Dataset, write_case_labels
from pantskit.core.errors import DatasetError, Quarantined
from pantskit.core.labels import PANCREAS, PANTS, STRUCTURES, Mask
from pantskit.core.records import RecordStore
from pantskit.core.run import Job, Progress, RunSummary, run_cases

STAGE = "fix"

# A stray is removed where it is this small a share of its organ and this far away: what is
# larger or nearer is for a person to judge.
STRAY_SHARE = 0.01
STRAY_MM = 20.0
# A part that lies mostly outside the gland is in doubt itself.
PART_INSIDE = 0.5


@dataclass(frozen=True)
class Change:
    """What is changed of one structure.

    Attributes:
        structure: the structure; "" for files as such, the combined map among them.
        what: in words.
        added: voxels; of the combined map those that get an id, or another one.
        removed: voxels; of the combined map those that lose theirs.
    """

    structure: str
    what: str
    added: int = 0
    removed: int = 0


def fix_dataset(
    dataset: Dataset,
    out: Path,
    *,
    dry_run: bool = False,
    split: str | None = None,
    cases: Sequence[str] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> RunSummary:
    """Write a new version of a dataset with what is certain mended; CTs stay as they are.

    Masks that are not binary, or have a slope, become plain ones, read as everywhere (above 0.5
    is inside). Strays of organs of one piece go. Parts that lie mostly in the pancreas are united
    with it. The combined map is written anew.

    Args:
        dataset: the original, which is only read.
        out: folder of the new version; with `dry_run` nothing is written there.
        dry_run: only say what would be changed.
        split: `"train"` or `"test"`; both when None.
        cases: case IDs; all when None.
        workers: processes.
        progress: called after each case.

    Returns:
        What became of each case; `data["changes"]` lists them.

    Raises:
        DatasetError: If `out` is the original or holds anything but an earlier mended version of
            it, or a case is not there.
    """
    if lies_in(out, dataset.root) or lies_in(dataset.root, out):
        raise DatasetError(f"{out}: lies in the original; give the new version its own folder")
    chosen = chosen_cases(dataset, split, cases)
    origin = {
        "name": str(dataset.info.get("name", dataset.root.resolve().name)),
        "version": str(dataset.info.get("version", "0")),
    }
    _require_new(out, origin)
    if dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            return _run(chosen, None, RecordStore(Path(scratch)), workers, progress)
    made = Dataset.create(out, name=origin["name"], annotated=())
    # What a dataset says of its sources, its patients' privacy and its copies goes with it.
    told = {k: v for k, v in dataset.info.items() if k not in ("label_space", "counts")}
    made.info |= {**told, "version": f"{origin['version']}+fix", "derived_from": origin}
    made.write_info()
    summary = _run(chosen, out, made.records, workers, progress)
    there = made.cases()
    if "annotated" not in dataset.info:
        made.info["annotated"] = _in_all(there)
    if dataset.metadata:
        made.write_metadata(
            dataset.metadata[c.case_id] for c in there if c.case_id in dataset.metadata
        )
    write_copies(made.root, read_copies(dataset.root))
    made.write_info()
    return summary


def _require_new(out: Path, origin: dict[str, str]) -> None:
    """Refuse a folder that holds anything but an earlier mended version of this dataset."""
    if not out.is_dir() or all(p.name.startswith(".") for p in out.iterdir()):
        return
    try:
        there = json.loads((out / "dataset.json").read_text("utf-8")).get("derived_from")
    except (OSError, ValueError, AttributeError):
        there = None
    if there != origin:
        raise DatasetError(
            f"{out}: is not empty and holds no mended version of {origin['name']}, version "
            f"{origin['version']}; give a new folder"
        )


def _in_all(cases: Sequence[Case]) -> list[str]:
    """Structures that every case has, in the order of the 28."""
    each = [set(labels.structures()) for case in cases if (labels := case.labels())]
    return [s for s in STRUCTURES if each and all(s in some for some in each)]


def _run(
    cases: Sequence[Case],
    out: Path | None,
    store: RecordStore,
    workers: int,
    progress: Progress | None,
) -> RunSummary:
    jobs = []
    for case in cases:
        labels = case.labels()
        inputs = (case.image_path, *(labels.paths if labels else ()))
        jobs.append(Job(case.case_id, (case, out), inputs))
    return run_cases(fix_case, jobs, stage=STAGE, store=store, workers=workers, progress=progress)


def fix_case(job: Job) -> dict[str, Any]:
    """Mend one case; a payload without a folder only tells what would change."""
    case, out = job.payload
    files = read_case(case)
    if files.problems:
        raise Quarantined(f"{case.case_id}: {next(iter(files.problems.values()))}")
    masks, changes = plan_changes(files)
    coded = None if files.scan is None else _coded(masks, files.scan.source.shape)
    if coded is not None:
        changes += _of_map(files, coded)
    if out is not None:
        made = Dataset(out, {})
        if case.image_path.is_file():
            _link(case.image_path.resolve(), made.image_path(case.case_id, case.split))
        if files.scan is not None and coded is not None:
            write_case_labels(made, case.case_id, case.split, coded, files.scan.source)
    return {"changes": [asdict(change) for change in changes]}


Crops = dict[str, tuple[Mask, tuple[slice, slice, slice]]]


def plan_changes(files: CaseFiles) -> tuple[Crops, list[Change]]:
    """The mended masks, cut to boxes of the file's array, and what is changed in them.

    Args:
        files: a case that could be read.
    """
    scan = files.scan
    if scan is None:
        return {}, []
    changes = [Change("", f"written plainly: {fault}") for fault in _file_faults(files)]
    changes += [Change(s, f"{words}: that one is left out") for s, words in _second_files(files)]
    masks: Crops = {}
    for structure in (s for s in STRUCTURES if s in scan.annotated):
        if structure in scan.empty:
            none = slice(0, 0)
            masks[structure] = np.zeros((0, 0, 0), np.bool_), (none, none, none)
            continue
        kept, removed = _without_strays(scan, structure)
        masks[structure] = scan.in_file(kept, structure)
        if removed:
            words = "strays removed: far from the organ and under 1 % of it"
            changes.append(Change(structure, words, removed=removed))
    added = _united(scan, masks)
    if added:
        changes.append(Change(PANCREAS, "united with its parts", added=added))
    return masks, changes


def _file_faults(files: CaseFiles) -> list[str]:
    faults = grouped(files.labels.faults) if files.labels else []
    return faults + [
        f"combined map: {f}" for f in (files.combined.faults if files.combined else ())
    ]


def _second_files(files: CaseFiles) -> Iterator[tuple[str, str]]:
    for structure, others in beside(files.case, files.labels).items() if files.labels else ():
        for path in others:
            yield structure, f"{path.parent.name}/{path.name} beside the file that is read"


def _of_map(files: CaseFiles, coded: CodedMasks) -> list[Change]:
    """What the combined map, written anew, has otherwise than the old one."""
    old = files.combined
    if old is None or files.geometry is None:
        return []
    words = "combined map: written anew from the masks"
    if old.label_space != PANTS.name or not old.geometry.same_grid(files.geometry):
        return [Change("", f"{words}, with its label space")]
    new = coded.combined(PANTS)
    added = int(np.count_nonzero((new != old.array) & (new > 0)))
    removed = int(np.count_nonzero((new == 0) & (old.array > 0)))
    return [Change("", words, added, removed)] if added or removed else []


def _without_strays(scan: Scan, structure: str) -> tuple[Mask, int]:
    region = scan.regions[structure]
    if structure not in ONE_PIECE:
        return region.array, 0
    found = [part for part, _ in strays(scan, structure, STRAY_SHARE, STRAY_MM)]
    if not found:
        return region.array, 0
    kept = region.array.copy(order="F")
    for part in found:
        # Within its box a stray may stand beside other parts: only its own voxels go.
        kept[part.box] &= ~part.mask(region.array)
    return kept, sum(part.voxels for part in found)


def _united(scan: Scan, masks: Crops) -> int:
    """Add to the pancreas the parts that lie mostly in it; voxels added."""
    if PANCREAS not in scan.regions:
        return 0
    parts = [
        m
        for m in STRUCTURES[PANCREAS].members
        if m in scan.regions
        and scan.overlap(PANCREAS, m) >= PART_INSIDE * scan.regions[m].voxels
        and scan.overlap(PANCREAS, m) < scan.regions[m].voxels
    ]
    if not parts:
        return 0
    coded = _coded({s: masks[s] for s in (PANCREAS, *parts)}, scan.source.shape)
    added = coded.unite(PANCREAS, parts)
    whole = coded.mask(PANCREAS)
    assert whole is not None
    masks[PANCREAS] = whole, (slice(None), slice(None), slice(None))
    return added


def _coded(masks: Crops, shape: tuple[int, int, int]) -> CodedMasks:
    coded = CodedMasks.empty(shape)
    for structure, (mask, box) in masks.items():
        whole = np.zeros(shape, np.bool_, order="F")
        if mask.size:
            whole[box] = mask
        coded.add(structure, whole)
    return coded


def _link(source: Path, target: Path) -> None:
    """The same file in another folder: a second name for it where the disk allows, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
