"""What an import says at the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pantskit.core.labels import LESION
from pantskit.core.records import CaseRecord
from pantskit.ingest.sources.importing import ImportSummary

_MOST_TOLD = 20


def summary_record(summary: ImportSummary, out: Path) -> dict[str, Any]:
    """For programs: counts, and of every case what became of it and what was odd."""
    return {
        "dataset": str(out),
        "source": summary.source.name,
        "counts": summary.run.counts,
        "layouts": [
            {"name": name, "images": images, "labels": labels}
            for name, images, labels in summary.tried
        ],
        "other_files": summary.others,
        "labels_alone": summary.labels_alone,
        "lies_as": list(summary.like),
        "same_scans": [list(group) for group in summary.same],
        "same_scans_on_two_sides": [list(group) for group in summary.on_two_sides],
        "structures": structure_counts(summary.run.records),
        "cases": [_row(record) for record in summary.run.records],
    }


def structure_counts(records: Iterable[CaseRecord]) -> dict[str, int]:
    """Structure to the number of cases in which it is annotated."""
    found = (r.data.get("labels") or {} for r in records if r.status == "done")
    return dict(Counter(s for labels in found for s in labels.get("voxels", {})))


def _row(record: CaseRecord) -> dict[str, Any]:
    labels = record.data.get("labels") or {}
    return {
        "case_id": record.case_id,
        "status": record.status,
        "message": record.message,
        "structures": list(labels.get("voxels", {})),
        "faults": _faults(record),
        "unmapped": labels.get("unmapped", []),
    }


def _faults(record: CaseRecord) -> list[str]:
    source, labels = record.data.get("source") or {}, record.data.get("labels") or {}
    return [*(f"CT: {fault}" for fault in source.get("faults", [])), *labels.get("faults", [])]


def summary_lines(summary: ImportSummary, out: Path) -> list[str]:
    """For people: cases that failed, what was odd, which structures came."""
    records = summary.run.records
    lines = [f"{summary.source.title}, licence: {summary.source.license}"]
    for name, images, labels in summary.tried:
        lines.append(f"layout {name!r}: {images} CTs or slices, {labels} labels")
    if summary.labels_alone:
        lines.append("there is no CT in these folders: labels were taken alone")
    if summary.others:
        lines.append(f"{summary.others} files fit no layout and were left")
    if summary.like:
        lines.append(f"no case is complete; the files lie as in {', '.join(summary.like)}")
    lines += [f"{r.status}: {r.message}" for r in summary.run.not_done]
    lines += _alike("odd", [(f, r.case_id) for r in records for f in _faults(r)])
    skipped = [
        (r.message.removeprefix(f"{r.case_id}: "), r.case_id)
        for r in records
        if r.status == "skipped"
    ]
    lines += _alike("skipped", skipped)
    lines += _same(summary)
    lines += [_structures(summary)]
    return [*lines, f"{out}: {summary.run.describe()}"]


def _same(summary: ImportSummary) -> list[str]:
    """Copies of one scan; those in both splits are named, of the others the first few."""
    both = set(summary.on_two_sides)
    lines = [
        f"one scan in both splits: {', '.join(group)}; import one of them with another --split"
        for group in summary.on_two_sides
    ]
    others = [", ".join(group) for group in summary.same if group not in both]
    if others:
        few = "; ".join(others[:5]) + ("; ..." if len(others) > 5 else "")
        lines.append(f"{len(others)} scans are there more than once, as one patient each: {few}")
    return lines


def _alike(what: str, told: list[tuple[str, str]]) -> list[str]:
    """A line for each thing that was said, with the first case and how many more."""
    by_text: dict[str, list[str]] = {}
    for text, case_id in told:
        by_text.setdefault(text, []).append(case_id)
    lines = [
        f"{what}: {cases[0]}{f' and {len(cases) - 1} more' if len(cases) > 1 else ''}: {text}"
        for text, cases in by_text.items()
    ]
    if len(lines) > _MOST_TOLD:
        lines[_MOST_TOLD:] = [f"{what}: {len(lines) - _MOST_TOLD} more; the records name them"]
    return lines


def _structures(summary: ImportSummary) -> str:
    counts = structure_counts(summary.run.records)
    if not counts:
        return "no structure of the 28 is annotated"
    text = ", ".join(f"{s} {n}" for s, n in counts.items())
    tumours = sum(
        bool((r.data.get("labels") or {}).get("voxels", {}).get(LESION))
        for r in summary.run.records
        if r.status == "done"
    )
    drawn = f"; {tumours} with a pancreatic tumour" if LESION in counts else ""
    return f"annotated in cases: {text}{drawn}"
