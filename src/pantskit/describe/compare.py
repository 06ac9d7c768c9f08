"""Datasets on disk beside the paper's Table 3: count, build the table, write it in every form."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError
from pantskit.core.files import write_json, write_text
from pantskit.core.published import published_datasets, table3
from pantskit.core.run import Progress, RunSummary
from pantskit.describe.comparison import NUMBERS, Comparison, Row, build_comparison
from pantskit.describe.counting import DatasetCounts, Distinct, count_dataset
from pantskit.describe.latex import latex_document, latex_notes, latex_table
from pantskit.describe.markdown import markdown_page
from pantskit.describe.picture import draw_comparison

NAME = "comparison"


@dataclass(frozen=True)
class CompareResult:
    """What was compared, and what became of the cases that were counted.

    Attributes:
        comparison: the table.
        runs: a run a dataset.
        files: what was written.
    """

    comparison: Comparison
    runs: tuple[RunSummary, ...]
    files: tuple[Path, ...]

    @property
    def exit_status(self) -> int:
        """1 when a case could not be read."""
        return max((run.exit_status for run in self.runs), default=0)


def compare_datasets(
    folders: Sequence[Path],
    out: Path,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> CompareResult:
    """Write the paper's Table 3 with other public datasets and one's own.

    Args:
        folders: datasets of one's own; none gives the published ones alone.
        out: folder for comparison.md, .csv, .json, .png, .pdf, figures.csv, and LaTeX:
            comparison.tex (the table), comparison_notes.tex and comparison_document.tex.
        workers: processes that count; 0 counts in this one.
        progress: called after each case.

    Raises:
        DatasetError: If a folder is no dataset, or one without a case.
        ConfigError: If a dataset is given twice.
    """
    datasets = [Dataset.open(folder) for folder in _once(folders)]
    out.mkdir(parents=True, exist_ok=True)  # what is wrong with it shows before the counting
    results = [count_dataset(d, workers=workers, progress=progress) for d in datasets]
    comparison = build_comparison(_told_apart([counts for counts, _ in results]))
    files = write_comparison(comparison, out)
    return CompareResult(comparison, tuple(run for _, run in results), files)


def write_comparison(comparison: Comparison, out: Path) -> tuple[Path, ...]:
    """Write a comparison in every form; see `compare_datasets`."""
    table, notes = f"{NAME}.tex", f"{NAME}_notes.tex"
    texts = {
        f"{NAME}.md": markdown_page(comparison),
        f"{NAME}.csv": _csv(_table_rows(comparison)),
        "figures.csv": _csv(_figure_rows(comparison)),
        table: latex_table(comparison),
        notes: latex_notes(comparison),
        f"{NAME}_document.tex": latex_document(table, notes),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    write_json(out / f"{NAME}.json", comparison_record(comparison))
    pictures = tuple(out / f"{NAME}{suffix}" for suffix in (".png", ".pdf"))
    draw_comparison(comparison, *pictures)
    return (*(out / name for name in texts), out / f"{NAME}.json", *pictures)


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """The comparison in JSON's types: rows, ratios, remarks, notes, published figures, counts."""
    return {
        "source": table3().source,
        "columns": [column.model_dump() for column in comparison.columns],
        "rows": [_row_record(row, comparison) for row in comparison.rows],
        "ratios": [{**vars(r), "value": r.value, "text": r.text} for r in comparison.ratios],
        "remarks": list(comparison.remarks),
        "notes": {str(n): text for n, text in enumerate(comparison.notes, 1)},
        "figures": _figure_rows(comparison),
        "counted": [_counts_record(counts) for counts in comparison.counted],
    }


def _once(folders: Sequence[Path]) -> list[Path]:
    resolved = [folder.resolve() for folder in folders]
    for place, folder in enumerate(resolved):
        if folder in resolved[:place]:
            raise ConfigError(
                f"{folders[place]}: the dataset is given twice; its cases would count twice"
            )
    return list(folders)


def _told_apart(counted: Sequence[DatasetCounts]) -> list[DatasetCounts]:
    """Datasets of one name get their folder behind it."""
    names = Counter(counts.name for counts in counted)
    return [replace(c, name=f"{c.name} ({c.folder})") if names[c.name] > 1 else c for c in counted]


def _row_record(row: Row, comparison: Comparison) -> dict[str, Any]:
    titles = [column.title for column in comparison.columns]
    keys = [what for what, _ in NUMBERS]
    return {
        "kind": row.kind,
        "group": row.group,
        "name": row.name,
        "label": row.label,
        **{k: vars(cell) for k, cell in zip(keys, row.numbers, strict=True)},
        "structures": {t: vars(cell) for t, cell in zip(titles, row.marks, strict=True)},
        "notes": row.notes,
    }


def _table_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Rows of comparison.csv: cells as printed, notes in a column of their own."""
    numbers = [title for _, title in NUMBERS]
    titles = [column.title for column in comparison.columns]
    return [
        {
            "kind": row.kind,
            "group": row.group,
            "name": row.name,
            "dataset": row.label,
            # Plain digits: a thousands comma would make text of a number.
            **{
                t: c.text if c.value is None else c.value
                for t, c in zip(numbers, row.numbers, strict=True)
            },
            **{t: c.text + c.sign for t, c in zip(titles, row.marks, strict=True)},
            "notes": " ".join(
                comparison.notes[n - 1]
                for n in dict.fromkeys([*row.notes, *(n for c in row.numbers for n in c.notes)])
            ),
        }
        for row in comparison.rows
    ]


def _figure_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Every number with its source and how well it is known; counted ones among them."""
    table = table3()
    found = [
        {"dataset": row.dataset, "part": row.label, **figure.model_dump(), "in_table_3": True}
        for row in table.rows
        for figure in table.figures(row)
    ]
    found += [
        {"dataset": name, "part": "", **figure.model_dump(), "in_table_3": False}
        for name, dataset in published_datasets().items()
        for figure in dataset.figures
    ]
    found += [
        {
            "dataset": row.name,
            "part": "",
            "what": what,
            "value": cell.value,
            "words": "",
            "source": "counted",
            "known": "counted" if cell.value is not None else "missing",
            "in_table_3": False,
        }
        for row in comparison.of_kind("counted")
        for (what, _), cell in zip(NUMBERS, row.numbers, strict=True)
    ]
    return found


def _counts_record(counts: DatasetCounts) -> dict[str, Any]:
    return {
        "name": counts.name,
        "folder": counts.folder,
        "cases": counts.cases,
        "unread": counts.unread,
        "by_split": counts.by_split,
        "scans": counts.scans,
        "unlabelled": counts.unlabelled,
        "annotated": counts.annotated,
        "tumours": {**vars(counts.tumours), "positive": counts.tumours.positive},
        # How many, not who.
        "patients": {
            "number": counts.patients.number,
            "missing": counts.patients.missing,
            "scans_as_patients": counts.scans_as_patients,
        },
        **{
            what: _distinct_record(getattr(counts, what))
            for what in ("institutions", "countries", "manufacturers")
        },
        "without_metadata": counts.without_metadata,
        "rows_without_files": counts.rows_without_files,
    }


def _distinct_record(found: Distinct) -> dict[str, Any]:
    return {**vars(found), "number": found.number}


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
