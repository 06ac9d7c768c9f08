"""What the sources hold and what would become of it, before anything is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from pantskit.core.errors import ImageError, PantskitError
from pantskit.core.geometry import Geometry
from pantskit.core.nrrd import read_nrrd_header
from pantskit.core.volume import read_header
from pantskit.ingest.discovery.discover import Found, is_nifti
from pantskit.ingest.discovery.kernels import kernel_class
from pantskit.ingest.discovery.outlook import outlook
from pantskit.ingest.discovery.series import Series
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.facts.describe import phase_of
from pantskit.ingest.labels.sources import LabelSource

if TYPE_CHECKING:
    from rich.console import Console

# What would become of a source, for people.
_KINDS = {"taken": "CT", "skipped": "skipped", "quarantined": "quarantined", "failed": "fails"}
_COLUMNS = ("", "study", "slices", "size", "spacing", "axes", "thick", "kernel", "phase", "source")


def listing_rows(
    found: Found, labels: Sequence[LabelSource] = (), allowed: Collection[str] = ()
) -> list[dict[str, Any]]:
    """One row for each series, volume file, damaged file and annotation.

    Args:
        found: the content of the sources, after `choose`.
        labels: annotations of `--labels`.
        allowed: what may be wrong with a stack of slices, as for `read_series`.

    Returns:
        Rows that JSON can hold. `kind` is CT, NIfTI or NRRD for what would become a case, or
        skipped, quarantined, fails or labels; `reason` says why, or what is odd; `note` is that
        or the geometry in words. Numbers are null where they are not known. `patient` and
        `study` count within the listing.
    """
    studies: dict[tuple[str, ...], int] = {}
    patients: dict[str, int] = {}
    rows = [_series_row(series, patients, studies, allowed) for series in found.series]
    with Reader() as reader:
        rows += [_volume_row(file, reader) for file in found.volumes]
    rows += [_row(str(b.file), "fails", b.message) for b in found.bad]
    return rows + [_row(str(s.place), "labels", _contents(s)) for s in labels]


def takes_nothing(rows: Iterable[dict[str, Any]]) -> bool:
    """Whether no row of a listing would become a case."""
    return not any(row["kind"] in ("CT", "NIfTI", "NRRD") for row in rows)


def listing_end(rows: Sequence[dict[str, Any]]) -> str:
    """What a listing comes to: `3 of 5 would be taken, 1 skipped, 1 fails`."""
    kinds = [row["kind"] for row in rows if row["kind"] != "labels"]
    taken = sum(kind in ("CT", "NIfTI", "NRRD") for kind in kinds)
    others = ("skipped", "quarantined", "fails")
    rest = [f"{kinds.count(kind)} {kind}" for kind in others if kind in kinds]
    first = f"{taken} of {len(kinds)} would be taken" if taken else "there is no CT to take"
    return ", ".join([first, *rest])


def listing_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A listing as aligned lines; the reason of each row stands below it."""
    cells = [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *cells, strict=True)]
    lines = [_aligned(_COLUMNS, widths)] if rows else []
    for row, line in zip(rows, cells, strict=True):
        lines.append(_aligned(line, widths))
        if row["reason"]:
            lines.append(f"{'':<{widths[0]}}  {row['reason']}")
    return lines


def print_listing(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """A listing on a terminal: where each source lies, and its reason, stand below its numbers."""
    from rich.padding import Padding
    from rich.text import Text

    cells = [_cells(row)[:-1] for row in rows]
    widths = [max(map(len, column)) for column in zip(_COLUMNS[:-1], *cells, strict=True)]
    if rows:
        console.print(Text(_aligned(_COLUMNS[:-1], widths), style="bold"))
    colours = {"skipped": "dim", "quarantined": "yellow", "fails": "red", "labels": "cyan"}
    for row, line in zip(rows, cells, strict=True):
        style = colours.get(row["kind"], "")
        console.print(Text(_aligned(line, widths), style=style))
        below = [Text(row["source"], style=style)]
        below += [Text(row["reason"], style=f"italic {style}")] if row["reason"] else []
        console.print(Padding(Text("\n").join(below), (0, 0, 0, 4)))


def _series_row(
    series: Series,
    patients: dict[str, int],
    studies: dict[tuple[str, ...], int],
    allowed: Collection[str],
) -> dict[str, Any]:
    first, expected = series.first, outlook(series, allowed)
    patient = first.description.get("PatientID", "")
    number = studies.setdefault((patient, first.study_uid), len(studies) + 1)
    phase = phase_of(first.description)
    row = _row(series.place, _KINDS[expected.status], expected.reason, expected.geometry)
    if expected.status == "taken":
        row["note"] += f", phase {phase or 'not clear'}"
    return row | {
        "format": "DICOM",
        "patient": patients.setdefault(patient, len(patients) + 1),
        "study": number,
        "slices": len(series.slices),
        "slice_thickness_mm": _number(first.description.get("SliceThickness")),
        "kernel": first.kernel or None,
        "kernel_class": kernel_class(first.kernel),
        "phase": phase,
        "contrast_agent": bool(first.description.get("ContrastBolusAgent")) or None,
    }


def _volume_row(file: SourceFile, reader: Reader) -> dict[str, Any]:
    name = "NIfTI" if is_nifti(file) else "NRRD"
    try:
        with reader.local(file) as path:
            try:
                geometry, dtype = _volume_header(file, path)
            except PantskitError as error:  # which begins with the name it was read by
                raise ImageError(str(error).removeprefix(f"{path}: ")) from None
    except PantskitError as error:
        return _row(str(file), "fails", str(error)) | {"format": name}
    except Exception as error:  # zipfile and tarfile have errors of their own
        return _row(str(file), "fails", f"cannot be read ({type(error).__name__})")
    row = _row(str(file), name, "", geometry)
    note = f"{geometry.describe()}, {dtype}"
    return row | {"format": name, "note": note, "slices": geometry.shape[2]}


def _volume_header(file: SourceFile, path: Any) -> tuple[Geometry, str]:
    if is_nifti(file):
        nifti = read_header(path)
        return nifti.geometry, str(nifti.dtype)
    nrrd = read_nrrd_header(path)
    return nrrd.geometry, str(nrrd.dtype)


def _contents(source: LabelSource) -> str:
    files, objects = len(source.volumes), len(source.series) + len(source.objects)
    parts = [f"{files} volume files"] if files else []
    parts += [f"{objects} DICOM series or objects"] if objects else []
    return f"annotations: {', '.join(parts)}"


def _row(source: str, kind: str, reason: str, geometry: Geometry | None = None) -> dict[str, Any]:
    described = [geometry.describe()] if geometry and kind == "CT" else []
    return {
        "source": source,
        "kind": kind,
        "reason": reason,
        "note": ", ".join([*described, *([reason] if reason else [])]),
        "format": None,
        "patient": None,
        "study": None,
        "slices": None,
        "shape": list(map(int, geometry.shape)) if geometry else None,
        "spacing": [round(float(s), 4) for s in geometry.spacing] if geometry else None,
        "orientation": geometry.orientation if geometry else None,
        "slice_thickness_mm": None,
        "kernel": None,
        "kernel_class": None,
        "phase": None,
        "contrast_agent": None,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    thick = row["slice_thickness_mm"]
    phase = row["phase"] or ("contrast" if row["contrast_agent"] else "")
    return (
        row["kind"],
        str(row["study"] or ""),
        str(row["slices"] or ""),
        "x".join(map(str, row["shape"] or ())),
        "x".join(f"{s:.3g}" for s in row["spacing"] or ()),
        row["orientation"] or "",
        f"{thick:g}" if thick else "",
        (row["kernel"] or "").replace("\\", " "),
        phase,
        row["source"],
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    last = len(cells) - 1
    padded = (c if n == last else f"{c:<{widths[n]}}" for n, c in zip(count(), cells, strict=False))
    return "  ".join(padded).rstrip()


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return round(value, 3) if 0 < value < 1000 else None
