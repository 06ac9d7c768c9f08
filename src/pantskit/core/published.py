"""What is published of public datasets: figures with their sources, and Table 3 of the paper.

`core/data/published/<dataset>.toml` says of each dataset what it counts, who says so and how well
that is known, and which structures it draws; `core/data/table3.toml` is the paper's table as
printed. Neither corrects the other: where they differ both stand.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pantskit.core.labels import STRUCTURES

What = Literal["pancreatic_tumours", "scans", "labelled", "patients", "institutions", "countries"]
Known = Literal["paper", "site", "memory"]

KNOWN_WORDS = {
    "paper": "read in a paper or its abstract",
    "site": "read on a page, in a repository or in published metadata",
    "memory": "from memory, not looked up",
}

DRAWN, MISSING = "✓", "×"


def _structure(name: str) -> str:
    if name not in STRUCTURES:
        raise ValueError(f"{name!r} is none of the 28 structures")
    return name


StructureName = Annotated[str, AfterValidator(_structure)]


class _Published(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Published):
    """One number about a dataset, who says it and how well that is known.

    Attributes:
        what: what is counted; tumours are scans with a drawn pancreatic tumour, `labelled`
            scans with any label.
        value: the number; None where the source has only words.
        words: in place of the number: `"over 40"`.
        source: where it stands, with what it refers to.
        known: read in a paper, read on a site, or from memory.
    """

    what: What
    value: int | None = Field(default=None, ge=0)
    words: str = ""
    source: str = Field(min_length=1)
    known: Known

    @model_validator(mode="after")
    def _says_something(self) -> Figure:
        if (self.value is None) == (not self.words):
            raise ValueError("a figure has either a value or words")
        return self

    @property
    def text(self) -> str:
        """The number as printed."""
        return self.words if self.value is None else f"{self.value:,}"


class TableColumn(_Published):
    """A structure column of Table 3: its head, and the structures of ours that it stands for."""

    title: str
    structures: tuple[StructureName, ...] = Field(min_length=1)


class TableRow(_Published):
    """A row of Table 3.

    Attributes:
        label: as printed.
        dataset: which of the published datasets it is.
        group: the heading that it stands under; `""` for none.
        marks: one character a column, more of them than the table has heads.
    """

    label: str
    dataset: str
    group: str = ""
    pancreatic_tumours: int
    scans: int
    institutions: int
    countries: int
    marks: str

    @property
    def full_label(self) -> str:
        """The label with the heading that it stands under."""
        return f"{self.group}, {self.label}" if self.group else self.label


class Claim(_Published):
    """A ratio that the paper states, in its words."""

    name: str
    value: float
    words: str
    source: str
    known: Known


class Whole(_Published):
    """What the caption of Table 3 says of the whole of PanTS."""

    scans: int
    institutions: int
    countries: int


class Table3(_Published):
    """Table 3 of the paper as printed."""

    source: str
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    whole: Whole
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _marks_are_marks(self) -> Table3:
        for row in self.rows:
            if set(row.marks) - {DRAWN, MISSING} or len(row.marks) < len(self.columns):
                raise ValueError(f"{row.label}: a mark for every column, {DRAWN} or {MISSING}")
        return self

    def figures(self, row: TableRow) -> tuple[Figure, ...]:
        """The numbers of a row with the table as their source."""
        whats: tuple[What, ...] = ("pancreatic_tumours", "scans", "institutions", "countries")
        return tuple(
            Figure(what=what, value=getattr(row, what), source=self.source, known="paper")
            for what in whats
        )

    def rows_of(self, dataset: str) -> tuple[TableRow, ...]:
        """The rows of a dataset: two of PanTS, one or none of any other."""
        return tuple(row for row in self.rows if row.dataset == dataset)


class PublishedDataset(_Published):
    """What is published of one dataset outside Table 3.

    Attributes:
        label: its name in tables.
        figures: the dataset's own, by those who made it or counted it.
        drawn: structures that its labels have, whole and in every labelled scan.
        partly: those that they have in part or in some scans, with what is missing.
    """

    label: str
    figures: tuple[Figure, ...]
    drawn: tuple[StructureName, ...] = ()
    partly: dict[StructureName, str] = Field(default_factory=dict)

    def figure(self, what: What) -> Figure | None:
        """The first figure of a kind; None where nothing is known."""
        return next((f for f in self.figures if f.what == what), None)


@cache
def table3() -> Table3:
    """Table 3 of the paper."""
    text = (resources.files("pantskit.core") / "data" / "table3.toml").read_text("utf-8")
    return Table3.model_validate(tomllib.loads(text))


@cache
def published_datasets() -> dict[str, PublishedDataset]:
    """All datasets with published figures, by the name that `pantskit import` knows."""
    folder = resources.files("pantskit.core") / "data" / "published"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {
        file.name.removesuffix(".toml"): PublishedDataset.model_validate(
            tomllib.loads(file.read_text("utf-8"))
        )
        for file in files
    }


def headline_figure(dataset: str, what: What) -> int | None:
    """The number that a list of datasets shows: that of Table 3 where it has one row.

    Returns:
        None where the dataset is not known, or nobody gives a number.
    """
    rows = table3().rows_of(dataset)
    if len(rows) == 1:
        return next(f.value for f in table3().figures(rows[0]) if f.what == what)
    known = published_datasets().get(dataset)
    figure = known.figure(what) if known else None
    return figure.value if figure else None
