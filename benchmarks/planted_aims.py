"""Figures beside their aims, and whether they are met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A figure that was measured.

    Attributes:
        what: was measured.
        value: as printed.
        aim: as printed; empty: there is none.
        met: whether the aim is met; None: it has none, or too little was measured to judge it.
    """

    what: str
    value: str
    aim: str = ""
    met: bool | None = None


def table(header: tuple[str, ...], rows: Iterable[Iterable[object]]) -> None:
    """Print a Markdown table and an empty line."""
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def report_figures(figures: list[Figure]) -> int:
    """Print all figures with their aims.

    Returns:
        The exit status: 1 when an aim is missed.
    """
    words = {True: "met", False: "MISSED", None: "-"}
    print("## Figures and aims\n")
    table(("figure", "measured", "aim", ""), [(f.what, f.value, f.aim, words[f.met])
                                              for f in figures])  # fmt: skip
    missed = [f.what for f in figures if f.met is False]
    print(f"aims missed: {'; '.join(missed) or 'none'}")
    return int(bool(missed))
