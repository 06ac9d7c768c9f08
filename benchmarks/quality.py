"""Planted faults against `pantskit check`, in phantoms and real labels; false alarms, memory, time.

    python benchmarks/quality.py --real FOLDER        # all of it; hours on one core
    python benchmarks/quality.py --parts planted --cases 4
    python benchmarks/quality.py --parts planted --cases 2 --kinds aorta celiac --save found.json
    python benchmarks/quality.py --parts planted --size medium --cases 1
    python benchmarks/quality.py --merge found.json more.json
    python benchmarks/quality.py --parts real --real FOLDER
    python benchmarks/quality.py --parts clean --clean small=300 medium=20 full=2
    python benchmarks/quality.py --parts many full

Last comes a table of the figures beside their aims; the exit status is 1 when an aim is missed.

Planted: a cohort of phantoms (four sites, so all phases; half of the patients with a tumour) is
checked as it is, and then a copy of each case with each fault at each level. A fault is found when
a warning or an error that the clean case does not have names the structure or the file that was
planted in; where a remark is all that is due, a remark. Levels that cannot be told from the files
are marked so, with the reason (`planted_kind.Kind.below`), and recall is counted both ways.
Medium (256 x 256 x 150) and full scans (512 x 512 x 300, a choice of kinds) and real labels take
seconds a fault: of the levels only the first and the last that can be told, unless asked for all.

Seeds from 70001 on were used in development, 94001 to tell what was missed; 80001, 9x001 and on in
nothing else than final figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from planted_aims import Figure, report_figures
from planted_case import Clean
from planted_clean import Alarms, cohort, count_alarms, report_alarms, report_full, report_many
from planted_faults import FULL, all_kinds
from planted_kind import Kind
from planted_report import report
from planted_run import Outcomes, another, balanced, plant_all

from pantskit.check.dataset import check_dataset
from pantskit.check.findings import Finding

SEED = 70001
PARTS = ("planted", "real", "clean", "many", "full")
COHORT = {"small": 24, "medium": 4, "full": 3}


def main() -> int:
    options = arguments()
    if options.merge:
        return report_figures(merged(options))
    figures: list[Figure] = []
    with work_folder(options.folder) as work:
        for part in options.parts:
            if part == "planted":
                for size in options.size:
                    figures += planted(options, work, size)
            elif part == "real":
                figures += real(options, work)
            elif part == "clean":
                figures += clean(options, work)
            elif part == "many":
                figures += report_many(work, options.many, options.seed, options.workers)
            else:
                figures += report_full(work, options.seed)
    return report_figures(figures)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cases", type=int, default=4, help="phantoms planted in (default 4)")
    parser.add_argument("--nth", type=int, help="only the nth of them, from 0")
    parser.add_argument("--cohort", type=int, help="phantoms to take them from (default 24 small)")
    parser.add_argument("--kinds", nargs="+", help="only kinds whose name begins so")
    parser.add_argument("--in-memory", action="store_true", help="only kinds of masks and values")
    parser.add_argument("--share", default="0/1", help="n/m: only every mth kind, from the nth on")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--size", nargs="+", choices=tuple(COHORT), default=["small"])
    parser.add_argument("--clean", nargs="+", default=["small=200", "medium=8", "full=2"])
    parser.add_argument("--real", type=Path, help="folder of real labels")
    parser.add_argument("--real-cases", nargs="+", help="only those whose name begins so")
    parser.add_argument(
        "--all-levels", action="store_true", help="whatever the size, and in real labels"
    )
    parser.add_argument("--many", type=int, default=10000, help="tiny cases (default 10,000)")
    parser.add_argument("--workers", type=int, default=2, help="for those")
    parser.add_argument("--save", type=Path, help="keep outcomes here; go on from them")
    parser.add_argument("--merge", nargs="+", type=Path, help="report saved outcomes as one")
    parser.add_argument("--folder", type=Path, help="scratch folder; cohorts are kept in it")
    return parser.parse_args()


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    """The folder given, or one that is removed at the end."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


def chosen(options: argparse.Namespace, names: list[str] | None = None) -> list[Kind]:
    """The kinds asked for; unless asked for some, those of the names, or all."""
    n, m = (int(x) for x in options.share.split("/"))
    kinds = all_kinds(options.kinds or names)[n::m]
    return [k for k in kinds if not (options.in_memory and k.on_disk)]


def kept(options: argparse.Namespace, which: str) -> Path | None:
    """Where the outcomes of a size, or in real labels, are kept."""
    path: Path | None = options.save
    several = len({*options.parts} & {"planted", "real"}) + len(options.size) > 2
    return path.with_suffix(f".{which}.json") if path and several else path


def planted(options: argparse.Namespace, work: Path, size: str) -> list[Figure]:
    """Plant in phantoms of a size."""
    number = max(2, options.cohort or COHORT[size], options.cases)
    dataset = cohort(work / f"cohort-{size}-{options.seed}", number, options.seed, size)
    ids = balanced(dataset)
    outcomes = Outcomes.kept_in(kept(options, size))
    kinds = chosen(options, list(FULL) if size == "full" else None)
    lot = None if any(k.company for k in kinds) else ids[: options.cases]
    alarms = list(check_dataset(dataset, cases=lot, workers=0).findings)
    ends = size != "small" and not options.all_levels
    for n, case_id in enumerate(ids[: options.cases]):
        if options.nth in (None, n):
            print(f"{case_id}, {n + 1} of {options.cases}", file=sys.stderr, flush=True)
            other = Clean.load(dataset, another(dataset, ids, case_id))
            clean = Clean.load(dataset, case_id)
            plant_all(kinds, clean, other, alarms, work, outcomes, ends_only=ends)
    return report(kinds, outcomes, f"Faults planted in {size} phantoms")


def real(options: argparse.Namespace, work: Path) -> list[Figure]:
    """Plant in real labels, where there are any."""
    if options.real is None:
        print("## Real labels\n\nnot measured: no --real FOLDER\n")
        return [Figure("real labels", "not measured: no --real FOLDER")]
    from planted_real import plant_in_real, report_real, wrong_slab

    kinds = chosen(options)
    only, every = options.real_cases, options.all_levels
    outcomes = Outcomes.kept_in(kept(options, "real"))
    alarms = plant_in_real(options.real, work, kinds, only, every, outcomes)
    if options.save:
        rows = {name: [f.row() for f in some] for name, some in alarms.items()}
        options.save.with_suffix(".alarms.json").write_text(json.dumps(rows, indent=1), "utf-8")
    return [*report_real(kinds, outcomes, alarms), wrong_slab(options.real)]


def clean(options: argparse.Namespace, work: Path) -> list[Figure]:
    """Count false alarms of sound phantoms."""
    parts = []
    for each in options.clean:
        size, _, count = each.partition("=")
        saved = options.save and options.save.with_suffix(f".clean-{size}.json")
        parts.append(count_alarms(work, int(count), options.seed, size, saved))
    return report_alarms(parts)


def merged(options: argparse.Namespace) -> list[Figure]:
    """Report what was saved."""
    saved = {path: json.loads(path.read_text("utf-8")) for path in options.merge}
    outcomes = Outcomes.read([p for p, data in saved.items() if "outcomes" in data])
    counts = [Alarms(**data) for data in saved.values() if "drawn" in data]
    said: dict[str, list[Finding]] = {}
    figures: list[Figure] = []
    for data in saved.values():
        if not {"drawn", "outcomes"} & set(data):
            said |= {name: [Finding.of_row(r) for r in rows] for name, rows in data.items()}
    if said:
        from planted_real import report_real

        figures += report_real(all_kinds(), outcomes, said)
    elif outcomes.rows:
        figures += report(all_kinds(), outcomes)
    if counts:
        figures += report_alarms(counts)
    return figures


if __name__ == "__main__":
    sys.exit(main())
