"""Tables of planted faults, in Markdown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from planted_aims import Figure, table
from planted_faults import OUGHT, all_kinds
from planted_kind import Kind
from planted_run import Outcome, Outcomes

from pantskit.check.registry import built_in_rules

AIM = 0.95
LEAST_KINDS = 40


def of(some: Iterable[bool]) -> str:
    """`3/4`."""
    flags = list(some)
    return f"{sum(flags)}/{len(flags)}"


@dataclass(frozen=True)
class Told:
    """Outcomes, and which of them can be told."""

    kinds: dict[str, Kind]

    def __call__(self, some: Iterable[Outcome]) -> list[Outcome]:
        """Those whose level can be told."""
        return [o for o in some if self.kinds[o.kind].told(o.level)]


def report(kinds: list[Kind], outcomes: Outcomes, title: str = "Planted faults") -> list[Figure]:
    """The matrix, recall of the rules, and what was missed; the figures of it."""
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    names = {k.name for k in kinds}  # what was saved before may have more
    outcomes = replace(outcomes, rows=[o for o in outcomes.rows if o.kind in names])
    for each in outcomes.rows:
        by_kind[each.kind].append(each)
    told = Told({k.name: k for k in kinds})
    print(f"## {title}\n")
    print("Levels from blatant to subtle: found of planted; in brackets where it is below what")
    print("can be told. `n x rule`: how often it named the fault; after a slash: remarks only,")
    print("where a warning is due; then rules that said something new of another structure.\n")
    rows = []
    for kind in kinds:
        some = by_kind[kind.name]
        levels = "; ".join(_level(kind, str(v), some) for v in kind.levels)
        rows.append((kind.name, kind.severity, levels, _fired(some),
                     outcomes.skipped[kind.name] or ""))  # fmt: skip
    table(("kind", "due", "found", "rules", "did not apply"), rows)
    report_below(kinds)
    figures = report_rules(told, outcomes.rows)
    report_sums(kinds, told, outcomes.rows)
    could = told(outcomes.rows)
    found = sum(o.found for o in could)
    count = len({o.kind for o in outcomes.rows})
    enough = count >= LEAST_KINDS if len(kinds) == len(all_kinds()) else None
    planted = Figure(f"{title}: kinds", str(count), f"at least {LEAST_KINDS}", enough)
    recall = Figure(f"{title}: found, levels that can be told",
                    f"{found} of {len(could)} ({found / max(1, len(could)):.2f})")  # fmt: skip
    named = [Figure(f"{title}: {f.what}", f.value, f.aim, f.met) for f in figures]
    return [planted, recall, *named]


def _level(kind: Kind, level: str, some: list[Outcome]) -> str:
    here = [o for o in some if o.level == level]
    if not here:
        return f"{level}: -"
    text = f"{level}: {of(o.found for o in here)}"
    return text if kind.told(level) else f"({text})"


def _fired(some: list[Outcome]) -> str:
    """`4 x rule, 2 x rule / 1 x rule [1 x rule]`."""
    lists = (
        Counter(rule for o in some for rule in getattr(o, name))
        for name in ("named_by", "remarks", "beside")
    )
    told, remarks, more = (", ".join(f"{n} x {r}" for r, n in c.most_common()) for c in lists)
    return (told or "-") + (f" / {remarks}" if remarks else "") + (f" [{more}]" if more else "")


def report_below(kinds: list[Kind]) -> None:
    """Levels below what can be told, each with its reason."""
    print("### Below what can be told from the files\n")
    rows = [(k.name, level, reason) for k in kinds for level, reason in k.below.items()]
    table(("kind", "level", "reason"), rows)


def report_rules(told: Told, outcomes: list[Outcome]) -> list[Figure]:
    """Of the faults that a rule ought to find: those that it found, and those that any found.

    Returns:
        How many rules reach the aim; rules without a fault are judged when all kinds are planted.
    """
    asked: dict[str, list[Outcome]] = defaultdict(list)
    for each in outcomes:
        for rule in OUGHT.get(each.kind, ()):
            asked[rule].append(each)
    print("### Rules\n")
    print("Of the faults that the rule ought to find, those that can be told: named by it (a")
    print("remark included), found by any; recall is of any. Last: recall of all levels.\n")
    rows, short = [], []
    for rule, every in sorted(asked.items()):
        some = told(every)
        by_it = of(rule in (*o.named_by, *o.remarks, *o.beside) for o in some)
        recall = sum(o.found for o in some) / max(1, len(some))
        all_levels = sum(o.found for o in every) / len(every)
        rows.append((rule, by_it, of(o.found for o in some), f"{recall:.2f}", f"{all_levels:.2f}"))
        if recall < AIM:
            short.append(f"{rule} {recall:.2f}")
    table(("rule", "by it", "by any rule", "recall", "all levels"), rows)
    without = [r.name for r in built_in_rules() if r.name not in asked]
    print(f"rules with a recall of {AIM} or more: {len(rows) - len(short)}/{len(rows)}")
    print(f"below: {', '.join(short) or '-'}")
    print(f"rules that no kind was planted for: {', '.join(without) or '-'}\n")
    every_kind = len(told.kinds) == len(all_kinds())
    return [
        Figure("rules of a recall of 0.95", f"{len(rows) - len(short)} of {len(rows)}", "all",
               not short),
        Figure("rules that no kind was planted for", str(len(without)), "none",
               not without if every_kind else None),
    ]  # fmt: skip


def report_sums(kinds: list[Kind], told: Told, rows: list[Outcome]) -> None:
    """Recall both ways, and each miss."""
    could = told(rows)
    blatant = {k.name: str(k.levels[0]) for k in kinds}
    print("found, levels that can be told:", of(o.found for o in could))
    print("found, all levels:", of(o.found for o in rows))
    print("found, blatant:", of(o.found for o in rows if o.level == blatant[o.kind]))
    print("as severe as expected, levels that can be told:", of(o.severe for o in could))
    there = {o.kind for o in rows}
    whole = there - {o.kind for o in could if not o.found}
    print(f"kinds found wherever they can be told: {len(whole)}/{len(there)}")
    missed = Counter(f"{o.kind} {o.level}" for o in could if not o.found)
    planted = Counter(f"{o.kind} {o.level}" for o in could)
    print("missed:", ", ".join(f"{m} ({n}/{planted[m]})" for m, n in missed.items()) or "-")
    for each in rows:
        if each.crash:
            print(f"not checked: {each.kind} ({each.level}), {each.case_id}: {each.crash}")
    if rows:
        print(f"seconds a planted case: {sum(o.seconds for o in rows) / len(rows):.2f}")
    print()
