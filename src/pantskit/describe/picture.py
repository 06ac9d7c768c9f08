"""A comparison as a picture: datasets by structures, and bars of scans and tumours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullLocator

from pantskit.core.files import atomic_path
from pantskit.core.published import DRAWN
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
GRID, QUIET = "#e6e9ed", "#7a8691"

_ROW_INCHES, _COLUMN_INCHES = 0.25, 0.23
_LONGEST_LABEL = 30


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the table as a picture.

    A filled square is a structure that is annotated, a pale one that is annotated in part or in
    some scans; an empty one with a dot is one that Table 3 marks as not annotated though the
    dataset's own labels have it. A number that nobody says has a question mark in place of a bar.

    Args:
        comparison: what to draw.
        path: PNG or PDF, by its suffix.
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
    with atomic_path(path) as part, warnings.catch_warnings():
        # A name in letters that the font lacks shows boxes; the tables have it in full.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        # Without a date, so that the same numbers give the same file.
        dateless = {"CreationDate": None} if path.suffix == ".pdf" else {}
        figure.savefig(part, dpi=200, metadata=dateless)


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
    for place, row in rows:
        for column, cell in enumerate(row.marks):
            _draw_mark(axes, column, place, cell)
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


def _draw_mark(axes: Axes, column: int, place: float, cell: Cell) -> None:
    color = "white"
    if cell.share:
        color = SCANS if cell.share[0] == cell.share[1] else PART if cell.share[0] else "white"
    elif cell.text == DRAWN:
        color = PART if cell.sign == IN_PART else SCANS
    elif cell.text == PARTLY:
        color = PART
    corner = (column - 0.4, place - 0.4)
    axes.add_patch(Rectangle(corner, 0.8, 0.8, facecolor=color, edgecolor="#c9d1d9", linewidth=0.6))
    if color == "white" and cell.sign:
        filled = TUMOUR if cell.sign == OTHERWISE else "white"
        axes.plot(column, place, "o", markersize=4.5, color=TUMOUR, markerfacecolor=filled)


def _label(row: Row) -> str:
    label = f"PanTS, {row.label}" if row.group else row.label
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _draw_bars(
    axes: Axes, rows: Sequence[tuple[float, Row]], number: int, title: str, color: str
) -> None:
    """Bars from 1 on a logarithmic scale, with the number; 0 and unknown are written."""
    largest = 10.0
    for place, row in rows:
        cell = row.numbers[number]
        largest = max(largest, float(cell.value or 0))
        if cell.value:
            axes.barh(place, cell.value - 0.8, left=0.8, height=0.62, color=color)
        start = cell.value or 0.8
        axes.text(start * 1.15, place, cell.text, va="center", fontsize=8, color=INK)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.8, largest * 14)
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
            axes.text(column, place, cell.text, ha="center", va="center", fontsize=8, color=INK)
    axes.set_xticks((0, 1), ("Institu-\ntions", "Coun-\ntries"), fontsize=8.5)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelleft=False)
    axes.set_xlim(-0.8, 1.6)
    axes.spines[:].set_visible(False)


def _legend(comparison: Comparison) -> list[Patch | Line2D]:
    signs = {cell.sign for row in comparison.rows for cell in row.marks}
    handles: list[Patch | Line2D] = [
        Patch(facecolor=SCANS, label="annotated"),
        Patch(facecolor=PART, label="in part, or in some scans"),
        Patch(facecolor="white", edgecolor="#c9d1d9", label="not annotated"),
    ]
    for sign, filled, text in (
        (OTHERWISE, TUMOUR, "not in Table 3, but in the dataset's labels"),
        (IN_PART, "white", "not in Table 3, but in part in the dataset's labels"),
    ):
        if sign in signs:
            dot = Line2D(
                [], [], marker="o", linestyle="", color=TUMOUR, markerfacecolor=filled, label=text
            )
            handles.append(dot)
    return handles
