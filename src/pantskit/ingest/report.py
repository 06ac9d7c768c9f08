"""What a run says at the terminal; only here do sources appear beside pseudonyms."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pantskit.core.errors import PantskitError
from pantskit.core.records import CaseRecord
from pantskit.ingest.deidentify import describe_header
from pantskit.ingest.dicom_pixels import series_stack
from pantskit.ingest.pipeline import IngestSettings, IngestSummary, look
from pantskit.ingest.series import Series


def print_line(record: CaseRecord, finished: int, total: int) -> None:
    """One line a case as it ends, on standard error."""
    print(f"[{finished}/{total}] {record.case_id} {record.status}", file=sys.stderr, flush=True)


def print_summary(summary: IngestSummary, out: Path, *, as_json: bool = False) -> None:
    """What became of each source, on standard output."""
    rows = [_row(summary, record) for record in summary.run.records]
    if as_json:
        print(json.dumps({"dataset": str(out), "counts": summary.run.counts, "cases": rows}))
        return
    for row in rows:
        print(f"{row['status']:<12} {row['case_id']}  {row['source']}")
        for line in row["notes"]:
            print(f"{'':<13}{line}")
    if summary.others:
        print(f"{summary.others} files are neither DICOM nor NIfTI and were left")
    if summary.unused_labels:
        print(f"labels without a CT: {', '.join(summary.unused_labels)}")
    print(f"{out}: {summary.run.describe()}")


def _row(summary: IngestSummary, record: CaseRecord) -> dict[str, Any]:
    labels = record.data.get("labels") or {}
    notes = [record.message.removeprefix(f"{record.case_id}: ")] if record.message else []
    if record.status == "done":
        shape = ", ".join(map(str, record.data["geometry"]["shape"]))
        spacing = ", ".join(f"{s:.4g}" for s in record.data["geometry"]["spacing"])
        notes.append(f"({shape}) at ({spacing}) mm")
        planned = summary.planned[record.case_id].plan
        if labels:
            united = [f"{s} = {' + '.join(n)}" for s, n in labels["united"].items()]
            notes.append(f"{len(labels['voxels'])} structures: {', '.join(labels['voxels'])}")
            notes += [f"united: {'; '.join(united)}"] if united else []
            if labels["unmapped"]:
                notes.append(f"no place among the 28: {', '.join(labels['unmapped'])}")
            notes += ["labels were resampled to the CT's grid"] if labels["resampled"] else []
            notes += labels["faults"]
        elif planned.labels is None and any(p.plan.labels for p in summary.planned.values()):
            notes.append("no labels found for it")
        notes += record.data["source"]["faults"]
    return {
        "case_id": record.case_id,
        "status": record.status,
        "source": summary.planned[record.case_id].place,
        "notes": notes,
        "unmapped": labels.get("unmapped", []),
    }


def list_sources(
    sources: Sequence[Path], settings: IngestSettings, *, as_json: bool = False
) -> None:
    """Show what the sources hold, geometry and phase guess, and what would be skipped and why."""
    found = look(sources, settings)
    rows = [_series_row(series) for series in found.series]
    rows += [{"source": str(f), "kind": "NIfTI", "note": ""} for f in found.nifti]
    rows += [{"source": str(b.file), "kind": "fails", "note": b.message} for b in found.bad]
    if as_json:
        print(json.dumps({"series": rows, "others": found.others}))
        return
    for row in rows:
        print(f"{row['kind']:<12} {row['source']}  {row['note']}")
    print(f"{len(rows)} series or images; {found.others} other files")


def _series_row(series: Series) -> dict[str, Any]:
    place = f"{series.first.file.folder} ({len(series.slices)} files)"
    reason = series.skip or series.fault
    if reason:
        return {"source": place, "kind": "skipped" if series.skip else "fails", "note": reason}
    try:
        geometry = series_stack(series.slices).geometry
    except PantskitError as error:
        return {"source": place, "kind": "fails", "note": str(error)}
    phase = describe_header(series.first.description)["phase"]
    note = f"{geometry.describe()}, phase {phase or 'not clear'}"
    return {"source": place, "kind": "CT", "note": note, "phase": phase}
