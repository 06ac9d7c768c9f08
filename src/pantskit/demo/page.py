"""The page of the demo: static HTML that opens from disk and links to every file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pantskit.core.dataset import Dataset
from pantskit.core.errors import PantskitError
from pantskit.core.files import write_text
from pantskit.core.labels import LESION, PANTS, STRUCTURES
from pantskit.core.labelsets import CaseLabels
from pantskit.core.labelsources import open_label_source
from pantskit.core.records import RecordStore, read_table, versions
from pantskit.demo.figures import CaseFigures, draw_case
from pantskit.demo.steps import StepResult

SHOWN_CASES = 6


@dataclass(frozen=True)
class Part:
    """Pictures of one dataset on the page.

    Attributes:
        title: heading.
        cases: figures with what is known of each case.
        failures: cases that did not get here, and those that could not be drawn, with the reason.
    """

    title: str
    cases: tuple[tuple[CaseFigures, dict[str, Any]], ...]
    failures: tuple[str, ...]


def write_page(root: Path, steps: Sequence[StepResult], *, real: bool) -> Path:
    """Draw pictures and write `root/index.html`.

    Args:
        root: the demo's folder, every step done.
        steps: what was run.
        real: whether real series were taken through as well.

    Returns:
        Path of the page.
    """
    from jinja2 import Environment, StrictUndefined

    parts = [_part(root, "Held-out site", "dataset", "predictions")]
    if real:
        parts.insert(0, _part(root, "Your series", "real", "real-predictions"))
    template = (resources.files("pantskit.demo") / "templates" / "index.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["score"] = lambda v: "–" if v is None else f"{v:.3f}"
    summary = json.loads((root / "scores" / "summary.json").read_text("utf-8"))
    findings = json.loads((root / "check" / "findings.json").read_text("utf-8"))
    text = environment.from_string(template).render(
        facts_line=_facts_line,
        steps=[{"result": s, "command": s.step.command(root)} for s in steps],
        seconds=sum(s.seconds for s in steps),
        structures=_structure_rows(summary),
        detection=summary["detection"],
        settings=summary["settings"],
        checked=findings["counts"],
        parts=parts,
        legend=[(s.title, "#{:02x}{:02x}{:02x}".format(*s.color)) for s in STRUCTURES.values()],
        roc=(root / "scores" / "roc.png").is_file(),
        curve=_first(root, "model/progress.png"),
        links=_links(root),
        versions=versions(),
        training=_count(root, "train"),
        testing=_count(root, "test"),
    )
    page = root / "index.html"
    write_text(page, text)
    return page


def _part(root: Path, title: str, dataset: str, predictions: str) -> Part:
    """Pictures of test cases, those with a tumour first."""
    opened = Dataset.open(root / dataset)
    rows = opened.metadata
    cases = sorted(
        opened.cases("test"),
        key=lambda c: (-int(rows.get(c.case_id, {}).get("lesions") or 0), c.case_id),
    )
    predicted = _predicted(root / predictions)
    scores = _scores(root / "scores" / "cases.csv")
    drawn: list[tuple[CaseFigures, dict[str, Any]]] = []
    failures = [
        f"{record.case_id} {record.status}: {record.message.removeprefix(f'{record.case_id}: ')}"
        for store in (opened.records, RecordStore(root / predictions))
        for stage in ("ingest", "predict")
        for record in store.all(stage)
        if record.status in ("failed", "quarantined")
    ]
    for case in cases[:SHOWN_CASES]:
        try:
            figures = draw_case(case, predicted.get(case.case_id), root)
        except (PantskitError, OSError) as error:
            failures.append(f"{case.case_id}: {error}")
            continue
        drawn.append((figures, rows.get(case.case_id, {}) | scores.get(case.case_id, {})))
    return Part(title, tuple(drawn), tuple(failures))


def _predicted(folder: Path) -> dict[str, CaseLabels]:
    try:
        return open_label_source(folder)
    except PantskitError:
        return {}  # every prediction failed; the step's log says why


def _scores(path: Path) -> dict[str, dict[str, Any]]:
    return {str(row["case_id"]): row for row in read_table(path)} if path.is_file() else {}


def _facts_line(facts: dict[str, Any]) -> str:
    """What is known of a case, in one line."""
    phase = str(facts.get("phase") or "phase unknown").replace("_", " ")
    words = [str(facts.get("site") or "site unknown"), phase]
    if facts.get("reference_tumor") is not None:
        words.append("tumour" if facts["reference_tumor"] else "no tumour")
    if facts.get("tumor_probability") is not None:
        words.append(f"predicted tumour probability {facts['tumor_probability']:.2f}")
    return " · ".join(words)


def _structure_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    tolerance = f"{summary['settings']['tolerances_mm'][0]:g}"
    return [
        {
            "title": STRUCTURES[name].title,
            "group": STRUCTURES[name].group,
            "color": "#{:02x}{:02x}{:02x}".format(*PANTS.colors[PANTS.id_of(name)]),
            "dsc": row["dsc"]["mean"],
            "median": row["dsc"]["median"],
            "nsd": row["nsd"][tolerance]["mean"],
            "n": row["dsc"]["n"],
            "empty": row["status"].get("both_empty", 0),
            "lesion": name == LESION,
        }
        for name, row in summary["structures"].items()
    ]


def _count(root: Path, split: str) -> int:
    return len(Dataset.open(root / "dataset").cases(split))


def _first(root: Path, name: str) -> str | None:
    return name if (root / name).is_file() else None


def _links(root: Path) -> list[tuple[str, str]]:
    """Files worth opening, as (path, what it is), those that are there."""
    named = (
        ("dicom/", "the DICOM as delivered, identifiers in it"),
        ("dataset/", "the standard dataset"),
        ("dataset/metadata.csv", "one row a case"),
        ("dataset/dataset.json", "name, label space, counts"),
        ("check/findings.csv", "what the check found"),
        ("model/", "the trained model"),
        ("model/model.json", "how it was trained"),
        ("model/progress.csv", "learning curve"),
        ("predictions/", "predicted label maps"),
        ("scores/scores.csv", "a row a case and structure"),
        ("scores/cases.csv", "a row a case"),
        ("scores/lesions.csv", "a row a tumour"),
        ("scores/roc.csv", "the ROC's points"),
        ("scores/summary.json", "all means, with how many cases each is over"),
        ("real/", "your series, standardised"),
        ("real-check/findings.csv", "what the check found in them"),
        ("real-predictions/", "what was predicted of them"),
        ("demo.json", "steps, seconds, exit statuses"),
    )
    return [(path, text) for path, text in named if (root / path).exists()]
