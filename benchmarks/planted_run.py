"""Plant every kind at every level in copies of clean cases, check them, keep the outcomes."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from planted_case import Clean, DoesNotApplyError, Planting
from planted_kind import Kind

from pantskit.check.dataset import check_dataset
from pantskit.check.findings import Finding
from pantskit.core.dataset import Dataset
from pantskit.core.errors import PantskitError
from pantskit.core.labels import STRUCTURES

WEIGHT = {"info": 0, "warning": 1, "error": 2}
Before = dict[tuple[str, str, str], int]


@dataclass(frozen=True)
class Outcome:
    """What became of one planted fault.

    Attributes:
        kind: its kind.
        level: its severity, as the planter took it.
        case_id: the case that it was planted in.
        found: whether a new warning or error names what was planted in; a remark is enough where
            no more is due.
        severe: whether one of them is of the severity expected or a worse one.
        named_by: rules whose new findings of that kind name it.
        remarks: rules that name it in a remark, where a warning is due.
        beside: rules with other new warnings or errors.
        hidden: rules that named the same structure before, so that nothing new can be told of them.
        crash: the message, where the check could not be run.
        seconds: that the check took.
    """

    kind: str
    level: str
    case_id: str
    found: bool
    severe: bool
    named_by: tuple[str, ...]
    remarks: tuple[str, ...]
    beside: tuple[str, ...]
    hidden: tuple[str, ...]
    crash: str
    seconds: float


@dataclass
class Outcomes:
    """All outcomes, and how often a kind did not apply.

    Attributes:
        rows: the outcomes.
        skipped: by kind, how often it did not apply.
        done: case and kind of what was planted at all levels.
        path: where they are kept as they come; None: nowhere.
    """

    rows: list[Outcome] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    done: list[list[str]] = field(default_factory=list)
    path: Path | None = None

    @classmethod
    def kept_in(cls, path: Path | None) -> Outcomes:
        """Those that an earlier run left there, to go on from; none where there are none."""
        found = cls.read([path]) if path is not None and path.is_file() else cls()
        found.path = path
        return found

    def add(self, case_id: str, kind: str, rows: Iterable[Outcome], skipped: int) -> None:
        """Take the outcomes of one kind in one case, and keep all."""
        self.rows += rows
        self.skipped[kind] += skipped
        self.done.append([case_id, kind])
        if self.path is not None:
            data = {"outcomes": [asdict(o) for o in self.rows], "skipped": self.skipped}
            temporary = self.path.with_suffix(".part")
            temporary.write_text(json.dumps(data | {"done": self.done}, indent=1), "utf-8")
            temporary.replace(self.path)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Outcomes:
        """Those of several files as one."""
        found = cls()
        for path in paths:
            data = json.loads(path.read_text("utf-8"))
            lists = ("named_by", "remarks", "beside", "hidden")
            for row in data["outcomes"]:
                found.rows.append(Outcome(**row | {n: tuple(row[n]) for n in lists}))
            found.skipped.update(data["skipped"])
            found.done += data["done"]
        return found


def balanced(dataset: Dataset) -> list[str]:
    """Case IDs: patients with a tumour and without in turn, and men and women within each."""
    groups: dict[tuple[bool, Any], list[str]] = {}
    for case in dataset.cases():
        row = dataset.metadata[case.case_id]
        groups.setdefault((not row.get("lesions"), row.get("sex")), []).append(case.case_id)
    with_, without = (
        _in_turn([ids for (free, _), ids in sorted(groups.items(), reverse=True) if free is side])
        for side in (False, True)
    )
    return _in_turn([with_, without])


def _in_turn(lists: list[list[str]]) -> list[str]:
    longest = max((len(some) for some in lists), default=0)
    return [some[n] for n in range(longest) for some in lists if n < len(some)]


def another(dataset: Dataset, ids: Sequence[str], case_id: str) -> str:
    """The next case of another patient.

    Raises:
        SystemExit: If all cases are of one patient.
    """
    patients = {c: dataset.metadata[c]["patient_id"] for c in ids}
    n = list(ids).index(case_id)
    for other in [*ids[n + 1 :], *ids[:n]]:
        if patients[other] != patients[case_id]:
            return other
    raise SystemExit("all cases are of one patient; ask for more cases")


def told_before(alarms: Iterable[Finding]) -> Before:
    """What was said of the clean cases, by case, rule and structure."""
    found: Before = {}
    for f in alarms:
        key = (f.case_id, f.rule, f.structure)
        found[key] = max(WEIGHT[f.severity], found.get(key, 0))
    return found


def plant_all(
    kinds: Iterable[Kind],
    clean: Clean,
    other: Clean,
    alarms: list[Finding],
    work: Path,
    outcomes: Outcomes,
    *,
    ends_only: bool = False,
) -> None:
    """Plant every kind at every level in one case and check the copies.

    Args:
        kinds: what to plant.
        clean: the case.
        other: another patient's.
        alarms: what is said of the clean cases.
        work: scratch folder, on the disk of the case.
        outcomes: added to.
        ends_only: of the levels the first, and the last that can be told.
    """
    before = told_before(alarms)
    for kind in kinds:
        if [clean.case_id, kind.name] in outcomes.done:
            continue
        levels = [v for v in kind.levels if not ends_only or kind.told(str(v))]
        start, rows, skipped = time.perf_counter(), [], 0
        for level in dict.fromkeys([levels[0], levels[-1]] if ends_only and levels else levels):
            with tempfile.TemporaryDirectory(prefix="planted", dir=work) as scratch:
                case = Planting(clean, other, Path(scratch) / "dataset")
                try:
                    kind.into(case, level)
                except DoesNotApplyError:
                    skipped += 1
                    continue
                rows.append(outcome(kind, level, case, before))
        outcomes.add(clean.case_id, kind.name, rows, skipped)
        took = time.perf_counter() - start
        print(f"  {kind.name} {took:.1f} s", file=sys.stderr, flush=True)


def outcome(kind: Kind, level: object, case: Planting, before: Before) -> Outcome:
    """Check a copy and compare with the clean case."""
    start, crash, found = time.perf_counter(), "", []
    try:
        result = check_dataset(Dataset.open(case.root), workers=0)
        found = list(result.findings)
        crash = "; ".join(r.message for r in result.run.records if r.status == "failed")
    except PantskitError as error:
        crash = f"refused: {error}"
    except Exception as error:  # a crash is a result
        crash = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    least = min(WEIGHT[kind.severity], 1)
    known = [(f, before.get((f.case_id, f.rule, f.structure), -1)) for f in found]
    new = [f for f, was in known if WEIGHT[f.severity] > was and f.case_id not in case.companions]
    naming = [f for f in new if names(f, kind)]
    told = [f for f in naming if WEIGHT[f.severity] >= least]
    old = {f.rule for f, was in known if was > 0 and names(f, kind)}
    rules = {f.rule for f in told}
    return Outcome(
        kind.name,
        str(level),
        case.clean.case_id,
        bool(told),
        any(WEIGHT[f.severity] >= WEIGHT[kind.severity] for f in told),
        tuple(sorted(rules)),
        tuple(sorted({f.rule for f in naming} - rules)),
        tuple(sorted({f.rule for f in new if WEIGHT[f.severity]} - {f.rule for f in naming})),
        tuple(sorted(old - rules)),
        crash,
        seconds,
    )


def names(finding: Finding, kind: Kind) -> bool:
    """Whether a finding names what was planted in: its structure, or a word for its file."""
    if "*" in kind.structures or finding.structure in kind.structures:
        return True
    text = f"{finding.rule} {finding.message}".casefold()
    titles = [STRUCTURES[s].title for s in kind.structures if s in STRUCTURES]
    words = [*kind.words, *kind.structures, *titles]
    return any(re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", text) for word in words)
