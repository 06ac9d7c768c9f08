"""A comparison as LaTeX: a table to put into a paper, its notes, and a document around both."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from pantskit.core.published import DRAWN, MISSING
from pantskit.describe.comparison import (
    IN_PART,
    LEGEND,
    NUMBERS,
    OTHERWISE,
    TITLES,
    Cell,
    Comparison,
    Row,
)

PACKAGES = ("booktabs", "graphicx", "amssymb")

_LETTERS = "ßæÆøØœŒłŁ"

_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%#_{}"},
    "$": r"\char36{}",  # \$ asks for a font that small installations do not have
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    '"': "''",
    "|": "$|$",
    "[": "{[}",  # after \\ and \item it would begin an option
    "]": "{]}",
    DRAWN: r"\checkmark{}",
    MISSING: r"$\times$",
    OTHERWISE: r"$^\dagger$",
    IN_PART: r"$^\ddagger$",
}


def latex_table(comparison: Comparison) -> str:
    r"""A `table*` with the whole table, as wide as the text; needs the packages of `PACKAGES`."""
    heads = [title for _, title in NUMBERS] + [c.title for c in comparison.columns]
    width = 1 + len(heads)
    lines = [
        f"% Needs {', '.join(PACKAGES)}.",
        r"\begin{table*}",
        r"\centering",
        r"\caption{Datasets compared. " + " ".join(escaped(line) for line in LEGEND[:3]) + "}",
        r"\label{tab:datasets-compared}",
        r"\setlength{\tabcolsep}{2pt}",
        r"\resizebox{\textwidth}{!}{%",
        r"\begin{tabular}{l" + "r" * len(NUMBERS) + "c" * len(comparison.columns) + "}",
        r"\toprule",
        " & ".join(["dataset", *(rf"\rotatebox{{90}}{{{escaped(h)}}}" for h in heads)]) + r" \\",
    ]
    for kind, title in TITLES.items():
        rows = comparison.of_kind(kind)
        if rows:
            lines += [
                r"\midrule",
                rf"\multicolumn{{{width}}}{{l}}{{\textbf{{{escaped(title)}}}}} \\",
            ]
        group = ""
        for row in rows:
            if row.group and row.group != group:
                lines.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escaped(row.group)}}}}} \\")
            group = row.group
            lines.append(_row(row))
    lines += [r"\bottomrule", r"\end{tabular}}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def latex_notes(comparison: Comparison) -> str:
    """Ratios with their definitions, remarks and the numbered notes, to stand behind the table."""
    ratios = (
        f"{r.text} = {r.formula}: {r.definition}."
        + (f" The paper says: {r.stated}." * bool(r.stated))
        for r in comparison.ratios
    )
    return "\n".join(
        [
            rf"\noindent {escaped(LEGEND[3])}",
            *_list("itemize", ratios),
            *_list("itemize", comparison.remarks),
            *_list("enumerate", comparison.notes),
            "",
        ]
    )


def latex_document(table: str, notes: str) -> str:
    """A document that reads the two files, to look at them or to check that they compile.

    Args:
        table, notes: their file names.
    """
    packages = [rf"\usepackage{{{name}}}" for name in PACKAGES]
    return "\n".join(
        [
            r"\documentclass[10pt]{article}",
            r"\usepackage[utf8]{inputenc}",
            r"\usepackage[a4paper,landscape,margin=15mm]{geometry}",
            *packages,
            r"\begin{document}",
            rf"\input{{{table}}}",
            r"\clearpage",
            rf"\input{{{notes}}}",
            r"\end{document}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text as LaTeX prints it; a letter that its plain fonts lack becomes a question mark."""
    plain = " ".join(text.split())
    return "".join(_SIGNS.get(c) or (c if _in_plain_fonts(c) else "?") for c in plain)


def _in_plain_fonts(character: str) -> bool:
    """ASCII, and letters that are one of ASCII with an accent over it or in `_LETTERS`."""
    base = unicodedata.normalize("NFD", character)
    printable = base[0].isascii() and base[0].isprintable()
    return (printable and (len(base) == 1 or character <= "ÿ")) or character in _LETTERS


def _row(row: Row) -> str:
    cells = (Cell(row.label, notes=row.notes), *row.numbers, *row.marks)
    return " & ".join(_cell(cell) for cell in cells) + r" \\"


def _cell(cell: Cell) -> str:
    notes = f"$^{{{','.join(map(str, cell.notes))}}}$" if cell.notes else ""
    return escaped(cell.text) + escaped(cell.sign) + notes


def _list(kind: str, texts: Iterable[str]) -> list[str]:
    # A bullet would need a font that small installations do not have.
    item = r"\item[--]" if kind == "itemize" else r"\item"
    items = [f"{item} {escaped(text)}" for text in texts]
    return [rf"\begin{{{kind}}}", *items, rf"\end{{{kind}}}"] if items else []
