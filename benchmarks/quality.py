"""Faults planted in phantoms against the findings of `pantskit check`, and its false alarms.

    python benchmarks/quality.py --cases 4
    python benchmarks/quality.py --cases 2 --kinds aorta celiac --json found.json

Makes a cohort of phantoms (four sites, so all phases; half of the patients with a tumour), checks
it as it is, and then a copy of each case with each fault at each severity. A fault is found when a
warning or an error that the clean case does not have names the structure or the file that was
planted in. Prints Markdown: recall of each kind with the rules that fired, recall of each rule over
the kinds that it ought to find, false alarms on the clean cases, seconds a case.

Seeds of planted cases begin at 70001; nothing else uses them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from planted_case import Clean, DoesNotApplyError, Kind, Planting
from planted_faults import OUGHT, all_kinds

from pantskit.check.dataset import check_dataset
from pantskit.check.findings import Finding
from pantskit.check.registry import built_in_rules
from pantskit.core.dataset import Dataset
from pantskit.core.errors import PantskitError
from pantskit.core.labels import STRUCTURES
from pantskit.phantom.cohort import make_cohort
from pantskit.phantom.scans import CohortPlan

SEED = 70001
WEIGHT = {"info": 0, "warning": 1, "error": 2}


@dataclass(frozen=True)
class Outcome:
    """What became of one planted fault.

    Attributes:
        kind: its kind.
        level: its severity, as the planter took it.
        case_id: the case that it was planted in.
        found: whether a new warning or error names what was planted in.
        severe: whether one of them is of the severity expected or a worse one.
        named_by: rules whose new warnings or errors name it.
        beside: rules with other new warnings or errors.
        crash: the message, where the check could not be run.
        seconds: that the check took.
    """

    kind: str
    level: str
    case_id: str
    found: bool
    severe: bool
    named_by: tuple[str, ...]
    beside: tuple[str, ...]
    crash: str
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=4, help="phantoms planted in (default 4)")
    parser.add_argument("--clean", type=int, help="phantoms checked as they are (default: those)")
    parser.add_argument("--kinds", nargs="+", help="only kinds whose name begins so")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--json", type=Path, help="write every outcome here, too")
    parser.add_argument("--folder", type=Path, help="where the cases are made (a scratch folder)")
    options = parser.parse_args()
    kinds = all_kinds(options.kinds)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        work = Path(scratch)
        number = max(2 if options.cases else 1, options.cases, options.clean or 0)
        dataset = cohort(work / "clean", number, options.seed, options.size)
        alarms, seconds = clean_findings(dataset)
        ids = [c.case_id for c in dataset.cases()]
        outcomes: list[Outcome] = []
        skipped: Counter[str] = Counter()
        for n, case_id in enumerate(ids[: options.cases]):
            print(f"{case_id} of {options.cases} cases", file=sys.stderr, flush=True)
            clean = Clean.load(dataset, case_id)
            other = Clean.load(dataset, another(dataset, ids, n))
            planted(kinds, clean, other, alarms, work / "planted", outcomes, skipped)
    if options.json:
        rows = [asdict(o) for o in outcomes]
        options.json.write_text(
            json.dumps({"outcomes": rows, "skipped": skipped}, indent=1), "utf-8"
        )
    report(kinds, outcomes, skipped)
    report_clean(alarms, number, seconds, outcomes)


def cohort(folder: Path, number: int, seed: int, size: str) -> Dataset:
    """Phantoms of all four sites, half of the patients with a tumour."""
    plan = CohortPlan(number, seed=seed, size=size, tumor_rate=0.5, sites=4, test_fraction=0.3)
    summary = make_cohort(plan, folder, refine=0, workers=0)
    if summary.exit_status:
        raise SystemExit("a phantom could not be made")
    return Dataset.open(folder)


def clean_findings(dataset: Dataset) -> tuple[list[Finding], float]:
    """What is said of the clean cohort, and the seconds that took."""
    start = time.perf_counter()
    found = check_dataset(dataset, workers=0).findings
    return list(found), time.perf_counter() - start


def another(dataset: Dataset, ids: list[str], n: int) -> str:
    """The next case of another patient.

    Raises:
        SystemExit: If all cases are of one patient.
    """
    patients = {c: dataset.metadata[c]["patient_id"] for c in ids}
    for case_id in ids[n + 1 :] + ids[:n]:
        if patients[case_id] != patients[ids[n]]:
            return case_id
    raise SystemExit("all cases are of one patient; ask for more cases")


def planted(
    kinds: Iterable[Kind],
    clean: Clean,
    other: Clean,
    alarms: list[Finding],
    work: Path,
    outcomes: list[Outcome],
    skipped: Counter[str],
) -> None:
    """Plant every kind at every level in one case and check the copy."""
    before = {(f.case_id, f.rule, f.structure): WEIGHT[f.severity] for f in alarms}
    for kind in kinds:
        for level in kind.levels:
            with tempfile.TemporaryDirectory(prefix="planted", dir=work.parent) as scratch:
                case = Planting(clean, other, Path(scratch))
                try:
                    kind.into(case, level)
                except DoesNotApplyError:
                    skipped[kind.name] += 1
                    continue
                outcomes.append(outcome(kind, level, case, before))


def outcome(
    kind: Kind, level: object, case: Planting, before: dict[tuple[str, str, str], int]
) -> Outcome:
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
    new = [
        f
        for f in found
        if WEIGHT[f.severity] > max(0, before.get((f.case_id, f.rule, f.structure), 0))
    ]
    naming = [f for f in new if names(f, kind)]
    return Outcome(
        kind.name,
        str(level),
        case.clean.case_id,
        bool(naming),
        any(WEIGHT[f.severity] >= WEIGHT[kind.severity] for f in naming),
        tuple(sorted({f.rule for f in naming})),
        tuple(sorted({f.rule for f in new} - {f.rule for f in naming})),
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


# The report


def table(header: tuple[str, ...], rows: Iterable[Iterable[object]]) -> None:
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def of(some: Iterable[bool]) -> str:
    """`3/4`."""
    flags = list(some)
    return f"{sum(flags)}/{len(flags)}"


def report(kinds: list[Kind], outcomes: list[Outcome], skipped: Counter[str]) -> None:
    """Recall of the kinds, the matrix, and recall of the rules."""
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for each in outcomes:
        by_kind[each.kind].append(each)
    print("## Planted faults\n")
    print(
        "Levels from blatant to subtle; found / planted. `n x rule`: how often it named the fault;"
    )
    print("in brackets: rules that said something new of another structure.\n")
    rows = []
    for kind in kinds:
        some = by_kind[kind.name]
        levels = (f"{v}: {of(o.found for o in some if o.level == str(v))}" for v in kind.levels)
        severe = f"{of(o.severe for o in some)} ({kind.severity})"
        rows.append((kind.name, kind.standard, "; ".join(levels), severe, fired(some),
                     skipped[kind.name] or ""))  # fmt: skip
    table(("kind", "violates", "found", "as severe as expected", "rules", "did not apply"), rows)
    report_rules(outcomes)
    blatant = {k.name: str(k.levels[0]) for k in kinds}
    print("found, all levels:", of(o.found for o in outcomes))
    print("found, blatant:", of(o.found for o in outcomes if o.level == blatant[o.kind]))
    print("as severe as expected:", of(o.severe for o in outcomes))
    whole = [k for k in kinds if by_kind[k.name] and all(o.found for o in by_kind[k.name])]
    never = [k.name for k in kinds if not any(o.found for o in by_kind[k.name])]
    print(
        f"kinds found at every level: {len(whole)}/{len(kinds)}; never: {', '.join(never) or '-'}"
    )
    for each in outcomes:
        if each.crash:
            print(f"not checked: {each.kind} ({each.level}), {each.case_id}: {each.crash}")


def fired(some: list[Outcome]) -> str:
    """`4 x rule, 2 x rule [1 x rule]`."""
    naming = Counter(rule for o in some for rule in o.named_by)
    beside = Counter(rule for o in some for rule in o.beside)
    told = ", ".join(f"{n} x {rule}" for rule, n in naming.most_common())
    more = ", ".join(f"{n} x {rule}" for rule, n in beside.most_common())
    return (told or "-") + (f" [{more}]" if more else "")


def report_rules(outcomes: list[Outcome]) -> None:
    """Of the faults that a rule ought to find: those that it found, and those that any found."""
    asked: dict[str, list[Outcome]] = defaultdict(list)
    for each in outcomes:
        for rule in OUGHT.get(each.kind, ()):
            asked[rule].append(each)
    print("## Rules\n")
    print("Over the kinds that the rule ought to find: found by it, found by any, share by any.\n")
    rows = []
    for rule, some in sorted(asked.items()):
        by_it = of(rule in (*o.named_by, *o.beside) for o in some)
        share = sum(o.found for o in some) / len(some)
        rows.append((rule, by_it, of(o.found for o in some), f"{share:.2f}"))
    table(("rule", "by it", "by any rule", "recall"), rows)
    asked_of = {name for some in OUGHT.values() for name in some}
    without = [r.name for r in built_in_rules() if r.name not in asked_of]
    print(f"rules that no kind was planted for: {', '.join(without) or '-'}\n")


def report_clean(alarms: list[Finding], cases: int, seconds: float, planted: list[Outcome]) -> None:
    """False alarms on the clean cohort, and times."""
    false = [f for f in alarms if WEIGHT[f.severity] > 0]
    alarmed = len({f.case_id for f in false if f.case_id})
    print(f"\n## Clean phantoms\n\n{cases} cases: {alarmed} with a warning or an error, ", end="")
    print(f"{len(false)} of those in all, {len(alarms) - len(false)} infos\n")
    counts = Counter((f.rule, f.structure, str(f.severity)) for f in alarms)
    if counts:
        table(
            ("rule", "structure", "severity", "times"), [(*k, n) for k, n in counts.most_common()]
        )
    for each in false:
        print(f"{each.case_id}: {each.severity}: {each.rule}: {each.message}")
    print(f"seconds a clean case: {seconds / cases:.2f}", end="")
    if planted:
        print(f"; a planted one: {sum(o.seconds for o in planted) / len(planted):.2f}", end="")
    print()


if __name__ == "__main__":
    main()
