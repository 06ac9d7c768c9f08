"""What a run says at the terminal; only here do sources appear beside pseudonyms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pantskit.core.records import CaseRecord
from pantskit.ingest.discovery.discover import unread_formats
from pantskit.ingest.listing import listing_rows
from pantskit.ingest.pipeline import HEADERS, IngestSummary, crew_of
from pantskit.ingest.quiet import keep_quiet
from pantskit.ingest.settings import IngestSettings
from pantskit.ingest.survey import survey


def summary_lines(summary: IngestSummary, out: Path) -> list[str]:
    """What became of each source, for people."""
    lines: list[str] = []
    for row in map(partial(_row, summary), summary.run.records):
        lines.append(f"{row['status']:<12} {row['case_id']}  {row['source']}")
        lines += [f"{'':<13}{note}" for note in row["notes"]]
    lines += [f"left: {place} has the content of another source" for place in summary.copies]
    if summary.others:
        unread = unread_formats(summary.unread)
        lines.append(
            ("1 file is" if summary.others == 1 else f"{summary.others} files are")
            + " neither DICOM image nor volume, and left"
            + (f"; {unread}" if unread else "")
        )
    if summary.unused_labels:
        lines.append(f"labels without a CT: {', '.join(summary.unused_labels)}")
    lines += _clinical_lines(summary.clinical or {})
    if nothing_taken(summary):
        lines.append("there was no CT to take: the reason of each source stands above")
    return [*lines, f"{out}: {summary.run.describe()}"]


def _clinical_lines(told: dict[str, Any]) -> list[str]:
    """How the clinical table fits: row numbers and counts only."""
    if not told:
        return []
    lines = [f"clinical table: rows of {told['joined']} patients joined"]
    if told["patients_without_row"]:
        lines.append(f"clinical table: {told['patients_without_row']} patients have no row")
    if told["rows_without_ct"]:
        rows = ", ".join(map(str, told["rows_without_ct"][:10]))
        more = ", ..." if len(told["rows_without_ct"]) > 10 else ""
        lines.append(f"clinical table: no CT for its rows {rows}{more}")
    lines += [
        f"clinical table: {count} values of {field} are in no vocabulary"
        for field, count in told["unknown_values"].items()
    ]
    return lines


def nothing_taken(summary: IngestSummary) -> bool:
    """Whether none of the sources became a case, now or before."""
    return not any(record.status == "done" for record in summary.run.records)


def exit_status(summary: IngestSummary) -> int:
    """0 when cases were made and nothing failed; 1 else, also where there was no CT to take."""
    return 1 if nothing_taken(summary) else summary.run.exit_status


def summary_json(summary: IngestSummary, out: Path) -> str:
    """The same for programs."""
    cases = [_row(summary, record) for record in summary.run.records]
    counts = summary.run.counts
    told = {
        "dataset": str(out),
        "counts": counts,
        "cases": cases,
        "clinical": summary.clinical,
        "copies": list(summary.copies),
        "labels_without_ct": list(summary.unused_labels),
        "other_files": summary.others,
        "unread_formats": summary.unread,
    }
    return json.dumps(told, indent=2)


def _row(summary: IngestSummary, record: CaseRecord) -> dict[str, Any]:
    labels = record.data.get("labels") or {}
    planned = summary.planned.get(record.case_id)
    notes = [record.message.removeprefix(f"{record.case_id}: ")] if record.message else []
    if record.status == "done":
        shape = ", ".join(map(str, record.data["geometry"]["shape"]))
        spacing = ", ".join(f"{s:.4g}" for s in record.data["geometry"]["spacing"])
        notes.append(f"({shape}) at ({spacing}) mm")
        if labels:
            united = [f"{s} = {' + '.join(n)}" for s, n in labels["united"].items()]
            names = list(labels["voxels"])
            few = f": {', '.join(names)}" if len(names) <= 12 else ""
            notes.append(f"{len(names)} structure{'s' * (len(names) != 1)}{few}")
            if empty := labels["empty"]:
                listed = ", ".join(empty) if len(empty) <= 12 else f"{len(empty)} structures"
                notes.append(f"annotated, and without a voxel: {listed}")
            notes += [f"united: {'; '.join(united)}"] if united else []
            if labels["unmapped"]:
                notes.append(f"no place among the 28: {_short(labels['unmapped'])}")
            notes += ["labels were resampled to the CT's grid"] if labels["resampled"] else []
            notes += labels["faults"]
        elif any(p.plan.labels for p in summary.planned.values()) and not (
            planned and planned.plan.labels
        ):
            notes.append("no labels found for it")
        notes += _odd(record.data)
    return {
        "case_id": record.case_id,
        "status": record.status,
        "source": planned.place if planned else "an earlier run",
        "notes": notes,
        "unmapped": labels.get("unmapped", []),
    }


def _odd(data: dict[str, Any]) -> list[str]:
    """What is to be known of a case that was made."""
    source, view = data["source"], data["view"]
    notes = ["lossy compression"] if source.get("lossy") else []
    if resampling := source.get("resampling"):
        notes.append(f"resampled: {', '.join(resampling['causes'])}")
    if view["head_in_view"]:
        notes.append("a head may be in view: its face is not removed")
    return [*notes, *source["faults"], *source["clinical_faults"], *view["faults"]]


def _short(names: Sequence[str]) -> str:
    """Names for a line; many bare label numbers become ranges."""
    numbers = [int(n.removeprefix("label ")) for n in names if n.startswith("label ")]
    named = [n for n in names if not n.startswith("label ")]
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    ranges = [f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs]
    return ", ".join([*named, *([f"labels {', '.join(ranges)}"] if ranges else [])])


def listing(
    sources: Sequence[Path], settings: IngestSettings, *, out: Path | None = None
) -> list[dict[str, Any]]:
    """What the sources hold, and what would become of it; see `listing_rows`.

    Args:
        sources: as for `ingest`.
        settings: of the run.
        out: the dataset that a run would write to, which is no source.

    Raises:
        ConfigError, LabelError: As `ingest`.
    """
    keep_quiet()
    with crew_of(settings, needs=HEADERS) as crew:
        found, labels = survey(sources, settings, out=out, workers=crew)
    return listing_rows(found, labels, settings.allowed)
