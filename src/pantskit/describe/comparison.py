"""Datasets beside one another: the paper's Table 3, other public datasets, and one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pantskit.core.labels import LESION
from pantskit.core.published import (
    DRAWN,
    KNOWN_WORDS,
    MISSING,
    Figure,
    PublishedDataset,
    Table3,
    TableColumn,
    TableRow,
    What,
    published_datasets,
    table3,
)
from pantskit.describe.counting import DatasetCounts, Distinct, shared_case_ids
from pantskit.describe.ratios import (
    PANTS,
    Ratio,
    own_ratios,
    published_ratios,
    unmatched_claims,
)

Kind = Literal["printed", "published", "counted"]

NUMBERS: tuple[tuple[What, str], ...] = (
    ("pancreatic_tumours", "pancreatic tumors"),
    ("scans", "number of CTs"),
    ("institutions", "institutions"),
    ("countries", "countries"),
)

UNKNOWN = "?"
PARTLY = f"({DRAWN})"
# Behind a mark of Table 3: what the dataset's own labels say.
OTHERWISE, IN_PART = "†", "‡"

TITLES: dict[Kind, str] = {
    "printed": "Table 3 of the paper, as printed",
    "published": "Other public datasets",
    "counted": "Counted in the files given",
}

LEGEND = (
    f"{DRAWN} annotated, {MISSING} not, {PARTLY} in part or in some scans, 3/4 in three of four "
    f"cases counted; {UNKNOWN} nobody says.",
    f"{OTHERWISE} the dataset's own labels say otherwise than this mark of Table 3; {IN_PART} they "
    "have the structure in part or in some scans.",
    "pancreatic tumors: scans with an annotated pancreatic tumour.",
    "Rows of Table 3 are as the paper prints them. How well a number is known: "
    + "; ".join(f"[{known}] {words}" for known, words in KNOWN_WORDS.items())
    + ". All published numbers with their sources: figures.csv.",
)


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: as printed, without the signs behind it.
        value: the number, where it is one.
        share: cases that have the structure, of all; None where nothing was counted.
        sign: `"†"`, `"‡"` or none.
        notes: numbers of the notes behind it.
    """

    text: str
    value: int | None = None
    share: tuple[int, int] | None = None
    sign: str = ""
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One dataset.

    Attributes:
        name: as commands know it; of a counted one its folder.
        label: in the table.
        kind: printed in Table 3, published elsewhere, or counted.
        group: a heading within the kind.
        numbers: the cells of `NUMBERS`.
        marks: a cell a structure column.
        notes: numbers of the notes behind the label.
    """

    name: str
    label: str
    kind: Kind
    numbers: tuple[Cell, ...]
    marks: tuple[Cell, ...]
    group: str = ""
    notes: tuple[int, ...] = ()

    @property
    def full_label(self) -> str:
        """The label with its heading."""
        return f"{self.group}, {self.label}" if self.group else self.label


@dataclass(frozen=True)
class Comparison:
    """The table and what belongs under it.

    Attributes:
        columns: of structures, as Table 3 heads them.
        rows: datasets.
        remarks: where Table 3 does not agree with itself or with the paper.
        notes: note 1 first.
        ratios: with their definitions.
        counted: the datasets on disk behind the counted rows.
    """

    columns: tuple[TableColumn, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]
    notes: tuple[str, ...]
    ratios: tuple[Ratio, ...]
    counted: tuple[DatasetCounts, ...]

    def of_kind(self, kind: Kind) -> tuple[Row, ...]:
        """The rows of a kind."""
        return tuple(row for row in self.rows if row.kind == kind)


class _Notes:
    """Notes under the table, numbered as they come, each once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def add(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers) + 1)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._numbers)


def build_comparison(counted: Sequence[DatasetCounts] = ()) -> Comparison:
    """Table 3 as printed, the other datasets that are known, and what was counted.

    Args:
        counted: datasets on disk; their names may be alike.
    """
    table, known, notes = table3(), published_datasets(), _Notes()
    first = {row.dataset: row for row in reversed(table.rows)}
    printed = [
        _printed_row(row, table, known[row.dataset] if first[row.dataset] is row else None, notes)
        for row in table.rows
    ]
    published = [
        _published_row(name, dataset, table, notes)
        for name, dataset in known.items()
        if name not in first
    ]
    shared = shared_case_ids(counted)
    own = [_counted_row(counts, table, shared, notes) for counts in counted]
    ratios = (*published_ratios(table, known), *(r for c in counted for r in own_ratios(table, c)))
    return Comparison(
        columns=table.columns,
        rows=(*printed, *published, *own),
        remarks=_remarks(table),
        notes=notes.texts,
        ratios=ratios,
        counted=tuple(counted),
    )


def _remarks(table: Table3) -> tuple[str, ...]:
    """Where Table 3 does not agree with itself or with the paper's text; nothing is smoothed."""
    heads, marks = len(table.columns), len(table.rows[0].marks)
    structures = sum(len(column.structures) for column in table.columns)
    training, test = table.rows_of(PANTS)
    both = training.countries + test.countries
    return (
        f"Table 3 has {heads} heads over structures and {marks} marks in every row. The first "
        f"{heads} are shown; whichever is too many, what follows the first mark of a row is alike.",
        f"The {heads} heads stand for {structures} structures: the pancreas, its three parts and "
        f"{structures - 4} others. The paper speaks of 24 surrounding structures.",
        f"The two sets of PanTS have {training.countries} and {test.countries} countries, "
        f"{both} together, and the caption {table.whole.countries}: at least "
        f"{both - table.whole.countries} are in both. Its scans and institutions are the sums.",
        *unmatched_claims(table),
        "The paper says that datasets of the table were incorporated into the training set; their "
        "scans overlap (LiTS is in MSD and CT-ORG, MSD and NIH are in PANORAMA), and sums count "
        "such scans each time.",
    )


def _printed_row(
    row: TableRow, table: Table3, known: PublishedDataset | None, notes: _Notes
) -> Row:
    """A row of Table 3; `known` is None for a part of a dataset that has no figures of its own."""
    numbers = []
    for figure in table.figures(row):
        others = [f for f in known.figures if f.what == figure.what] if known else []
        differing = [f for f in others if f.value != figure.value]
        told = tuple(notes.add(_disagreement(row, figure, f)) for f in differing)
        numbers.append(Cell(figure.text, figure.value, notes=told))
    behind = [_labelled_note(row.full_label, known), _partly_note(row.full_label, known, table)]
    return Row(
        name=row.dataset,
        label=row.label,
        kind="printed",
        group=row.group,
        numbers=tuple(numbers),
        marks=tuple(
            _printed_mark(mark, column, known)
            for mark, column in zip(row.marks, table.columns, strict=False)
        ),
        notes=tuple(notes.add(text) for text in behind if text),
    )


def _disagreement(row: TableRow, printed: Figure, other: Figure) -> str:
    what = dict(NUMBERS)[printed.what]
    return (
        f"{row.full_label}, {what}: {printed.text} in Table 3; {other.text} by another source: "
        f"{other.source} [{other.known}]"
    )


def _printed_mark(mark: str, column: TableColumn, known: PublishedDataset | None) -> Cell:
    drawn = _drawn(column, known) if known else mark
    if drawn == PARTLY:
        return Cell(mark, sign=IN_PART)
    return Cell(mark, sign="" if drawn == mark else OTHERWISE)


def _drawn(column: TableColumn, known: PublishedDataset) -> str:
    """Whether a dataset's own labels have the structures of a column."""
    if set(column.structures) <= set(known.drawn):
        return DRAWN
    some = set(column.structures) & {*known.drawn, *known.partly}
    return PARTLY if some else MISSING


def _labelled_note(label: str, known: PublishedDataset | None) -> str:
    figure = known.figure("labelled") if known else None
    if figure is None:
        return ""
    return f"{label}: {figure.text} scans have a label: {figure.source} [{figure.known}]"


def _partly_note(label: str, known: PublishedDataset | None, table: Table3) -> str:
    """Which structures a dataset has in part, those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    titled = [(s, column.title) for column in table.columns for s in column.structures]
    for structure, title in [*titled, (LESION, NUMBERS[0][1])]:
        if known and structure in known.partly:
            titles = reasons.setdefault(known.partly[structure], [])
            titles.extend([title] if title not in titles else [])
    told = "; ".join(f"{', '.join(titles)}: {reason}" for reason, titles in reasons.items())
    return f"{label}, in part: {told}." if told else ""


def _published_row(name: str, known: PublishedDataset, table: Table3, notes: _Notes) -> Row:
    numbers = []
    for what, title in NUMBERS:
        figure = known.figure(what)
        if figure is None:
            numbers.append(Cell(UNKNOWN))
            continue
        note = notes.add(f"{known.label}, {title}: {figure.source} [{figure.known}]")
        numbers.append(Cell(figure.text, figure.value, notes=(note,)))
    behind = [_labelled_note(known.label, known), _partly_note(known.label, known, table)]
    return Row(
        name=name,
        label=known.label,
        kind="published",
        numbers=tuple(numbers),
        marks=tuple(Cell(_drawn(column, known)) for column in table.columns),
        notes=tuple(notes.add(text) for text in behind if text),
    )


def _counted_row(
    counts: DatasetCounts,
    table: Table3,
    shared: dict[tuple[str, str], int],
    notes: _Notes,
) -> Row:
    tumours = Cell(
        _number(counts.tumours.positive),
        counts.tumours.positive,
        notes=tuple(notes.add(f"{counts.name}: {text}") for text in _tumour_notes(counts)),
    )
    scans = Cell(f"{counts.scans:,}", counts.scans) if counts.cases else Cell(UNKNOWN)
    return Row(
        name=str(counts.folder),
        label=counts.name,
        kind="counted",
        numbers=(
            tumours,
            scans,
            _distinct_cell(counts, counts.institutions, "site", notes),
            _distinct_cell(counts, counts.countries, "country", notes),
        ),
        marks=tuple(_counted_mark(counts, column) for column in table.columns),
        notes=tuple(notes.add(text) for text in _case_notes(counts, shared)),
    )


def _counted_mark(counts: DatasetCounts, column: TableColumn) -> Cell:
    """Cases that have all structures of a column: of several, the fewest have."""
    if not counts.cases:
        return Cell(UNKNOWN)
    having = min(counts.annotated[s] for s in column.structures)
    some = max(counts.annotated[s] for s in column.structures)
    share = DRAWN if having == counts.cases else f"{having}/{counts.cases}"
    return Cell(share if some else MISSING, having, share=(having, counts.cases))


def _distinct_cell(counts: DatasetCounts, found: Distinct, what: str, notes: _Notes) -> Cell:
    if found.number is None:
        return Cell(UNKNOWN, notes=(notes.add(f"{counts.name}: no case says its {what}."),))
    if not found.missing:
        return Cell(f"{found.number:,}", found.number)
    note = notes.add(
        f"{counts.name}: {found.missing:,} of {counts.cases:,} cases do not say their {what}."
    )
    return Cell(f"{found.number:,}", found.number, notes=(note,))


def _tumour_notes(counts: DatasetCounts) -> list[str]:
    found = counts.tumours
    if not found.known:
        return ["nothing tells which scans have a pancreatic tumour."]
    sentences = [
        (found.told, "of the scans with a tumour have no mask of it; the metadata say so."),
        (found.unknown, f"of {counts.cases:,} cases do not tell whether they have a tumour."),
        (
            found.only_told,
            "cases have a tumour in the metadata and none in their mask: not counted.",
        ),
        (found.only_drawn, "cases have a drawn tumour and none in the metadata: counted."),
    ]
    return [f"{number:,} {text}" for number, text in sentences if number]


def _case_notes(counts: DatasetCounts, shared: dict[tuple[str, str], int]) -> list[str]:
    sentences = [
        (len(counts.unread), "cases could not be read and are counted nowhere."),
        (counts.cases - counts.scans, f"of {counts.cases:,} cases have labels and no CT."),
        (counts.unlabelled, f"of {counts.cases:,} cases have no label."),
        (
            counts.scans_as_patients,
            "cases have a patient of their own, since nobody told who it is.",
        ),
    ]
    found = [f"{counts.name}: {number:,} {text}" for number, text in sentences if number]
    if counts.patients.number is None:
        found.append(f"{counts.name}: no case says its patient; a patient may count twice.")
    return found + [
        f"{number:,} case IDs are in both {first} and {second}: those scans count twice."
        for (first, second), number in shared.items()
        if counts.name in (first, second)
    ]


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
