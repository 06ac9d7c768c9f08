"""A comparison as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pantskit.describe.comparison import (
    LEGEND,
    NUMBERS,
    TITLES,
    Cell,
    Comparison,
    Row,
)
from pantskit.describe.counting import DatasetCounts


def markdown_page(comparison: Comparison) -> str:
    """The table, what was counted, ratios with their definitions, remarks and notes."""
    parts = [
        "# Datasets compared",
        _table(comparison),
        "\n".join(f"{line}  " for line in LEGEND),
    ]
    if comparison.counted:
        parts += ["## Counted", _counted_table(comparison.counted)]
    parts += [
        "## Ratios",
        _lines(
            ("ratio", "numbers", "what is divided by what", "the paper says"),
            ((r.text, r.formula, r.definition, r.stated) for r in comparison.ratios),
        ),
        "## Where the sources disagree",
        "\n".join(f"- {_escaped(text)}" for text in comparison.remarks),
        "\n".join(f"{n}. {_escaped(text)}" for n, text in enumerate(comparison.notes, 1)),
    ]
    return "\n\n".join(parts) + "\n"


def _table(comparison: Comparison) -> str:
    head = ["dataset", *(title for _, title in NUMBERS), *(c.title for c in comparison.columns)]
    lines = [
        _line(head),
        "|".join(["", ":--", *["--:"] * 4, *[":-:"] * len(comparison.columns), ""]),
    ]
    for kind, title in TITLES.items():
        rows = comparison.of_kind(kind)
        if not rows:
            continue
        lines.append(_line([f"**{title}**", *[""] * (len(head) - 1)]))
        group = ""
        for row in rows:
            if row.group and row.group != group:
                lines.append(_line([f"*{_escaped(row.group)}*", *[""] * (len(head) - 1)]))
            group = row.group
            lines.append(_line(_cells(row)))
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    label = Cell(row.label, notes=row.notes)
    return [_cell(cell) for cell in (label, *row.numbers, *row.marks)]


def _cell(cell: Cell) -> str:
    notes = f"<sup>{','.join(map(str, cell.notes))}</sup>" if cell.notes else ""
    return f"{_escaped(cell.text)}{cell.sign}{notes}"


def _counted_table(counted: Sequence[DatasetCounts]) -> str:
    head = (
        *("dataset", "cases", "train / test", "CTs", "without label", "patients"),
        *("tumour", "no tumour", "not known", "sites", "countries", "manufacturers"),
    )
    return _lines(head, (_counted_cells(counts) for counts in counted))


def _counted_cells(counts: DatasetCounts) -> list[str]:
    found = counts.tumours
    named = (counts.institutions, counts.countries, counts.manufacturers)
    return [
        counts.name,
        f"{counts.cases:,}",
        f"{counts.by_split['train']:,} / {counts.by_split['test']:,}",
        f"{counts.scans:,}",
        f"{counts.unlabelled:,}",
        "missing" if counts.patients.number is None else f"{counts.patients.number:,}",
        *(
            (f"{found.drawn + found.told:,}", f"{found.none_drawn + found.told_none:,}")
            if found.known
            else ("missing", "missing")
        ),
        f"{found.unknown:,}",
        *("missing" if d.number is None else f"{d.number:,}" for d in named),
    ]


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [_line([_escaped(cell) for cell in row]) for row in rows]
    return "\n".join([_line(head), "|".join(["", *[":--"] * len(head), ""]), *body])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Text that no character of it ends the cell, starts a tag or sets type."""
    for sign in ("\\", "|", "<", "*", "_", "`", "["):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
