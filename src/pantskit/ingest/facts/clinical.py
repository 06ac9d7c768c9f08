"""A clinical table joined by the original patient ID, which never comes along.

Of a table's columns only those named in data/vocabulary.toml are used: age or birth date, sex,
diagnosis and its basis. Each value goes through a vocabulary; no other column and no text of the
table reaches an output. What may identify somebody is kept for the leak scan alone.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pantskit.core.errors import ConfigError
from pantskit.ingest.facts.clinical_table import Rows, read_sheets
from pantskit.ingest.facts.describe import Date, age_at, capped_age, read_date, sex_of
from pantskit.ingest.facts.diagnosis import basis_of, diagnosis_of, named_other
from pantskit.ingest.facts.vocabulary import plain_words, vocabulary
from pantskit.ingest.privacy.identifiers import Identifiers, text_identifiers

FACTS = ("age_years", "sex", "diagnosis", "diagnosis_basis")

# A value that this many patients share is a category, and identifies none of them.
_CATEGORY = 5
_ATTRIBUTE = "clinical table"

_HEAD_ROWS = 10  # a title and a date may stand before the row that names the columns

_AGE = re.compile(r"0*(\d{1,3})(?:[.,]\d+)? ?(?:y(?:ea)?rs?|y|j|jahre?|ans|anni|anos|jaar|lat|岁)?")


@dataclass(frozen=True)
class ClinicalRow:
    """What a table says of one patient, in our words.

    Attributes:
        age_years: capped at 90; None where the table has no age.
        births: the dates that its birth date may be (day and month may be swapped).
        sex, diagnosis, diagnosis_basis: through the vocabularies, or None.
        faults: what contradicts itself, by row number.
        rows: numbers of its rows in the table, the header's being 1.
        identifiers: values of its rows that must not come out, to what they are.
    """

    age_years: int | None = None
    births: tuple[Date, ...] = ()
    sex: str | None = None
    diagnosis: str | None = None
    diagnosis_basis: str | None = None
    faults: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    identifiers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def facts(self, study_date: str = "") -> dict[str, Any]:
        """The columns that it fills; an age from a birth date needs the date of the study.

        Args:
            study_date: as in a DICOM header.
        """
        ages = {age_at(born, read_date(study_date)) for born in self.births}
        by_birth = ages.pop() if len(ages) == 1 else None
        age = self.age_years if self.age_years is not None else by_birth
        return {
            "age_years": age,
            "sex": self.sex,
            "diagnosis": self.diagnosis,
            "diagnosis_basis": self.diagnosis_basis,
        }


@dataclass(frozen=True)
class Clinical:
    """A clinical table, by the patient IDs that it writes.

    Attributes:
        rows: patient ID, trimmed, to what is said of the patient.
        unknown: field to the number of its cells that no vocabulary knows; a diagnosis among
            them has become `other`, anything else is left empty.
    """

    rows: Mapping[str, ClinicalRow] = field(repr=False)
    unknown: Mapping[str, int]

    @property
    def identifiers(self) -> dict[str, str]:
        """Every value of the table that must not come out, to what it is."""
        return {v: what for row in self.rows.values() for v, what in row.identifiers.items()}

    def join(self, patient_ids: Iterable[str]) -> ClinicalJoin:
        """Match the table with the patients of some CTs.

        IDs match as they are; else without regard to case; else without leading zeros, which
        spreadsheets drop. The latter two count only where one patient of the table and one of
        the CTs have that form.
        """
        wanted = {p.strip() for p in patient_ids if p.strip()}
        matched = {p: p for p in wanted if p in self.rows}
        forms: tuple[Callable[[str], str], ...] = (
            str.casefold,
            lambda p: p.casefold().lstrip("0"),
        )
        for form in forms:
            ours, theirs = _by_form(wanted, form), _by_form(self.rows, form)
            for shape in filter(None, ours.keys() & theirs.keys()):
                if len(ours[shape]) == len(theirs[shape]) == 1:
                    matched.setdefault(ours[shape][0], theirs[shape][0])
        taken = set(matched.values())
        return ClinicalJoin(
            {patient: self.rows[row] for patient, row in matched.items()},
            rows_without_ct=tuple(
                n for p, row in self.rows.items() if p not in taken for n in row.rows
            ),
            patients_without_row=tuple(sorted(wanted - set(matched))),
        )


@dataclass(frozen=True)
class ClinicalJoin:
    """A clinical table matched with the patients of some CTs.

    Attributes:
        rows: the CTs' patient IDs to what the table says.
        rows_without_ct: numbers of the table's rows whose patients have no CT here.
        patients_without_row: patient IDs without a row: to be counted, or shown as pseudonyms.
    """

    rows: Mapping[str, ClinicalRow] = field(repr=False)
    rows_without_ct: tuple[int, ...] = ()
    patients_without_row: tuple[str, ...] = field(default=(), repr=False)

    def row_for(self, patient_id: str, study_date: str = "") -> dict[str, Any] | None:
        """The facts about a CT's patient, or None where the table has no row.

        Args:
            patient_id: of the CT's header, as it is.
            study_date: of the CT, for an age from a birth date; neither date comes out.
        """
        row = self.rows.get(patient_id.strip())
        return row.facts(study_date) if row else None

    def faults_for(self, patient_id: str) -> tuple[str, ...]:
        """What contradicts itself in the patient's rows."""
        row = self.rows.get(patient_id.strip())
        return row.faults if row else ()

    def identifiers_for(self, patient_id: str) -> Identifiers:
        """Values of the patient's rows for the leak scan."""
        row = self.rows.get(patient_id.strip())
        return row.identifiers if row else {}


def _by_form(ids: Iterable[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for one in ids:
        found[form(one)].append(one)
    return found


def complete_facts(
    facts: Mapping[str, Any], row: Mapping[str, Any] | None
) -> tuple[dict[str, Any], list[str]]:
    """Facts of a header with what the clinical table adds.

    Returns:
        The facts, in which the table fills what the header left empty and changes nothing; and
        the contradictions between the two, in words.
    """
    if row is None:
        return dict(facts), []
    added = {k: row[k] for k in FACTS if facts.get(k) is None}
    faults = []
    sexes = (facts.get("sex"), row["sex"])
    if None not in sexes and sexes[0] != sexes[1]:
        faults.append(f"sex is {sexes[0]} in the header and {sexes[1]} in the clinical table")
    age, theirs = facts.get("age_years"), row["age_years"]
    # A year apart is the time between diagnosis and scan.
    if age is not None and theirs is not None and abs(age - theirs) > 1:
        faults.append(f"age is {age} in the header and {theirs} in the clinical table")
    return {**facts, **added}, faults


def read_clinical(path: Path) -> Clinical:
    """Read a .csv, .tsv or .xlsx table.

    One of the first ten rows names the columns; of a workbook, one sheet has such a row. Text is
    UTF-8 or UTF-16, else Latin-1; columns of a .csv are separated by what its first row has
    most of: semicolon, comma, tab or bar.

    Raises:
        ConfigError: If it cannot be read, has no column of patient IDs or nothing else that is
            of use, or has them in two sheets. The message holds no cell.
    """
    table, head = _table(path)
    places = _places(path, table[head])
    unknown: Counter[str] = Counter()
    seen: dict[str, list[ClinicalRow]] = defaultdict(list)
    shared = _shared_values(table[head + 1 :])
    for number, cells in enumerate(table[head + 1 :], start=head + 2):
        row = {name: cells[at].strip() if at < len(cells) else "" for name, at in places.items()}
        if row["patient_id"]:
            made = _row(row, number, unknown)
            values = _identifying(cells, places, shared)
            seen[row["patient_id"]].append(replace(made, identifiers=values))
    return Clinical({p: _united(rows) for p, rows in seen.items()}, dict(unknown))


def _table(path: Path) -> tuple[Rows, int]:
    """The rows of the sheet that holds patients, and which of them names the columns.

    Where none does, the first row is taken, so that what it lacks is told.
    """
    sheets = read_sheets(path)
    if not sheets:
        raise ConfigError(f"{path}: the clinical table is empty")
    found = [
        (rows, n)
        for rows in sheets
        if (n := next((n for n, row in enumerate(rows[:_HEAD_ROWS]) if _names_patients(row)), -1))
        >= 0
    ]
    if len(found) > 1:
        raise ConfigError(
            f"{path}: {len(found)} sheets of the clinical table hold patients; keep one of them"
        )
    return found[0] if found else (sheets[0], next(n for n, r in enumerate(sheets[0]) if any(r)))


def _names_patients(row: Sequence[str]) -> bool:
    """Whether a row names a column of patient IDs and one of facts."""
    names = [plain_words(cell) for cell in row]
    columns = vocabulary()["clinical"]["columns"]
    known = {
        field_name
        for field_name, synonyms in columns.items()
        if any(re.fullmatch(synonym, name) for synonym in synonyms for name in names)
    }
    return "patient_id" in known and len(known) > 1


def _places(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Field to its column."""
    names = [plain_words(cell) for cell in header]
    found: dict[str, int] = {}
    for field_name, synonyms in vocabulary()["clinical"]["columns"].items():
        for synonym in synonyms:  # the more telling names come first
            at = [i for i, name in enumerate(names) if re.fullmatch(synonym, name)]
            if len(at) > 1:
                raise ConfigError(
                    f"{path}: columns {', '.join(str(i + 1) for i in at)} of the clinical table "
                    f"have one name, which fits {field_name}; keep one of them"
                )
            if at:
                found[field_name] = at[0]
                break
    if "patient_id" not in found:
        raise ConfigError(
            f"{path}: none of the {len(names)} columns of the clinical table is known as the "
            "patient's ID; name it patient_id"
        )
    if not {*FACTS, "birth_date"}.intersection(found):
        raise ConfigError(
            f"{path}: the clinical table has patient IDs, but no column that is known as one of "
            f"{', '.join(FACTS)}; name them so"
        )
    return found


def _row(row: Mapping[str, str], number: int, unknown: Counter[str]) -> ClinicalRow:
    births = _births(row.get("birth_date", ""))
    made = ClinicalRow(
        age_years=_age(row.get("age_years", "")),
        births=births,
        sex=sex_of(row.get("sex", "")),
        diagnosis=diagnosis_of(row.get("diagnosis", "")),
        diagnosis_basis=basis_of(row.get("diagnosis_basis", "")),
        rows=(number,),
    )
    for name in (*FACTS, "birth_date"):
        text = row.get(name, "")
        value = births if name == "birth_date" else getattr(made, name)
        given = text and not (name == "diagnosis" and plain_words(text) in named_other())
        if given and (not value or value == "other"):
            unknown[name] += 1
    return made


def _age(text: str) -> int | None:
    words = re.sub(r"\s+", " ", text.lower()).strip()
    match = _AGE.fullmatch(words)
    return capped_age(int(match.group(1))) if match else None


def _births(text: str) -> tuple[Date, ...]:
    """The dates that a birth date may mean: with slashes day and month may be swapped."""
    date = text.strip().split(" ")[0].split("T")[0]
    if match := re.fullmatch(r"(\d{4})[-./]?(\d{1,2})[-./]?(\d{1,2})", date):
        year, month, day = map(int, match.groups())
        found = [(year, month, day)]
    elif match := re.fullmatch(r"(\d{1,2})([-./])(\d{1,2})\2(\d{4})", date):
        first, second, year = (int(match.group(n)) for n in (1, 3, 4))
        found = [(year, second, first)]
        if match.group(2) == "/":
            found.append((year, first, second))
    else:
        return ()
    return tuple(dict.fromkeys(d for d in found if _is_date(d)))


def _is_date(date: Date) -> bool:
    try:
        datetime.date(*date)
    except ValueError:
        return False
    return 1880 < date[0] < 2200


def _united(rows: Sequence[ClinicalRow]) -> ClinicalRow:
    """One row of a patient's several; where they disagree nothing is said, but that they do."""
    faults: list[str] = []
    agreed: dict[str, Any] = {}
    for name in (*FACTS, "births"):
        values = {v: row.rows[0] for row in reversed(rows) if (v := getattr(row, name))}
        if len(values) == 1:
            agreed[name] = next(iter(values))
        elif values:
            where = " and ".join(str(n) for n in sorted(values.values()))
            faults.append(
                f"rows {where} of the clinical table disagree in "
                f"{'birth_date' if name == 'births' else name}; it is left empty"
            )
    return ClinicalRow(
        **agreed,
        faults=tuple(faults),
        rows=tuple(n for row in rows for n in row.rows),
        identifiers={v: what for row in rows for v, what in row.identifiers.items()},
    )


def _shared_values(table: Sequence[Sequence[str]]) -> set[str]:
    counts = Counter(_plain_cell(cell) for cells in table for cell in set(cells))
    return {value for value, n in counts.items() if n >= _CATEGORY}


def _plain_cell(cell: str) -> str:
    return re.sub(r"^[\W_]+|[\W_]+$", "", " ".join(cell.lower().split()))


def _identifying(
    cells: Sequence[str], places: Mapping[str, int], shared: set[str]
) -> dict[str, str]:
    """Values of a row that must not come out: IDs, names, birth dates and free text."""
    vocabularies = {places[n] for n in ("age_years", "sex", "diagnosis_basis") if n in places}
    found: dict[str, str] = {}
    for at, cell in enumerate(cells):
        value = _plain_cell(cell)
        # The kind of a tumour in a word or two is what comes out; longer text tells more.
        if at in vocabularies or (at == places.get("diagnosis") and len(value.split()) < 3):
            continue
        if at != places["patient_id"] and (value in shared or _is_measure(value)):
            continue
        dates = [f"date:{year}-{month}-{day}" for year, month, day in _births(cell)]
        found |= dict.fromkeys(dates, _ATTRIBUTE) or text_identifiers([cell], _ATTRIBUTE)
    return found


def _is_measure(value: str) -> bool:
    """Whether it is a number too short to be anybody's."""
    return re.fullmatch(r"[\d.,+-]+", value) is not None and sum(map(str.isdigit, value)) < 6
