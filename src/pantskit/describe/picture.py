"""A comparison as a picture: datasets by structures, and bars of scans and tumours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullLocator

from pantskit.core.files import atomic_path
from pantskit.core.published import DRAWN, MISSING
from pantskit.describe.comparison import (
    IN_PART,
    OTHERWISE,
    PARTLY,
    TITLES,
    Cell,
    Comparison,
    Row,
)

INK, TUMOUR, SCANS, PART = "#1b2a3a", "#b5443c", "#5b7c99", "#b9cad8"
GRID, EDGE, QUIET = "#e6e9ed", "#c9d1d9", "#7a8691"

# What fills the dot of a mark that Table 3 does not have.
_DOTS = {OTHERWISE: TUMOUR, IN_PART: "white"}

_ROW_INCHES, _COLUMN_INCHES = 0.25, 0.23
_LONGEST_LABEL = 30


def draw_comparison(comparison: Comparison, *paths: Path) -> None:
    """Draw the table as a picture, once for all paths.

    A filled square is a structure that is annotated, a pale one that is annotated in part or in
    some scans; an empty one with a dot is one that Table 3 marks as not annotated though the
    dataset's own labels have it. A number that nobody says has a question mark in place of a bar.

    Args:
        comparison: what to draw.
        paths: PNG or PDF, by their suffixes.
    """
    rows, gaps = _places(comparison)
    height = len(rows) * _ROW_INCHES + len(gaps) * 1.5 * _ROW_INCHES + 2.6
    width = len(comparison.columns) * _COLUMN_INCHES + 8.2
    figure = Figure(figsize=(width, height), layout="constrained")
    matrix, scans, tumours, places = figure.subplots(
        1, 4, sharey=True, width_ratios=(len(comparison.columns) * _COLUMN_INCHES, 2.2, 1.7, 1.2)
    )
    _draw_matrix(matrix, comparison, rows, gaps)
    _draw_bars(scans, rows, 1, "Scans", SCANS)
    _draw_bars(tumours, rows, 0, "Scans with a pancreatic\ntumour annotated", TUMOUR)
    _write_places(places, rows)
    handles = _legend(comparison)
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=8.5)
    for path in paths:
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as part, warnings.catch_warnings():
        # A name in letters that the font lacks shows boxes; the tables have it in full.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        # Without a date, so that the same numbers give the same file.
        dateless = {"CreationDate": None} if path.suffix == ".pdf" else {}
        figure.savefig(part, dpi=200, metadata=dateless)
    figure.set_layout_engine("none")  # it is laid out, which takes longer than to draw it


def _places(comparison: Comparison) -> tuple[list[tuple[float, Row]], list[tuple[float, str]]]:
    """Heights of rows and of the headings above them, from the top downwards."""
    rows: list[tuple[float, Row]] = []
    headings: list[tuple[float, str]] = []
    place = 0.0
    for kind, title in TITLES.items():
        of_kind = comparison.of_kind(kind)
        if of_kind:
            headings.append((place, title))
            place += 1.0
            for row in of_kind:
                rows.append((place, row))
                place += 1.0
            place += 0.5
    return rows, headings


def _draw_matrix(
    axes: Axes,
    comparison: Comparison,
    rows: Sequence[tuple[float, Row]],
    headings: Sequence[tuple[float, str]],
) -> None:
    cells = [(column, place, cell) for place, row in rows for column, cell in enumerate(row.marks)]
    squares = [Rectangle((column - 0.4, place - 0.4), 0.8, 0.8) for column, place, _ in cells]
    colors = [_color(cell) for *_, cell in cells]
    axes.add_collection(PatchCollection(squares, facecolor=colors, edgecolor=EDGE, linewidth=0.6))
    for sign, filled in _DOTS.items():
        found = [(c, p) for c, p, cell in cells if cell.sign == sign and _color(cell) == "white"]
        if found:
            axes.plot(*zip(*found, strict=True), "o", ms=4.5, color=TUMOUR, mfc=filled)
    for place, title in headings:
        axes.text(-0.5, place, title, va="center", fontsize=8.5, fontweight="bold", color=INK)
    labels = [_label(row) for _, row in rows]
    axes.set_yticks([place for place, _ in rows], labels, fontsize=8.5, parse_math=False)
    titles = [column.title for column in comparison.columns]
    axes.set_xticks(range(len(titles)), titles, rotation=60, ha="left", rotation_mode="anchor")
    axes.tick_params(length=0, labelsize=8.5, top=False, labeltop=True, labelbottom=False)
    last = rows[-1][0] if rows else 0.0
    axes.set(xlim=(-0.6, len(titles) - 0.4), ylim=(last + 0.7, -0.7))
    axes.spines[:].set_visible(False)


def _color(cell: Cell) -> str:
    if cell.share:
        having, cases = cell.share
        return SCANS if having == cases else "white" if cell.text == MISSING else PART
    if cell.text == DRAWN:
        return PART if cell.sign == IN_PART else SCANS
    return PART if cell.text == PARTLY else "white"


def _label(row: Row) -> str:
    label = f"PanTS, {row.label}" if row.group else row.label
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _draw_bars(
    axes: Axes, rows: Sequence[tuple[float, Row]], number: int, title: str, color: str
) -> None:
    """Bars from 1 on a logarithmic scale, with the number; 0 and unknown are written."""
    bars = [(place, row.numbers[number].value or 0) for place, row in rows]
    lengths = [max(0.0, value - 0.8) for _, value in bars]
    axes.barh([place for place, _ in bars], lengths, left=0.8, height=0.62, color=color)
    for place, row in rows:
        cell = row.numbers[number]
        start = cell.value or 0.8
        text = axes.text(start * 1.15, place, cell.text, va="center", fontsize=8, color=INK)
        text.set_in_layout(False)  # there is room; to lay out every number takes seconds
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.8, 14 * max(10, *(value for _, value in bars)))
    axes.set_xlabel(title, fontsize=8.5)
    axes.xaxis.set_label_position("top")
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET, left=False)
    axes.tick_params(axis="y", labelleft=False)
    axes.spines[:].set_visible(False)


def _write_places(axes: Axes, rows: Sequence[tuple[float, Row]]) -> None:
    """Institutions and countries as numbers: most are 1, so bars would show little."""
    for place, row in rows:
        for column, cell in enumerate(row.numbers[2:]):
            text = axes.text(column, place, cell.text, ha="center", va="center", fontsize=8)
            text.set_in_layout(False)
    axes.set_xticks((0, 1), ("Institu-\ntions", "Coun-\ntries"), fontsize=8.5)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelleft=False)
    axes.set_xlim(-0.8, 1.6)
    axes.spines[:].set_visible(False)


def _legend(comparison: Comparison) -> list[Patch | Line2D]:
    signs = {cell.sign for row in comparison.rows for cell in row.marks}
    handles: list[Patch | Line2D] = [
        Patch(facecolor=SCANS, label="annotated"),
        Patch(facecolor=PART, label="in part, or in some scans"),
        Patch(facecolor="white", edgecolor=EDGE, label="not annotated"),
    ]
    dots = {
        OTHERWISE: "not in Table 3, but in the dataset's labels",
        IN_PART: "not in Table 3, but in part in the dataset's labels",
    }
    return handles + [
        Line2D([], [], marker="o", ls="", color=TUMOUR, mfc=_DOTS[sign], label=text)
        for sign, text in dots.items()
        if sign in signs
    ]
