"""The summary page of a check: one HTML file that opens from disk, pictures inside it."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantskit.check.alike import Line, in_lines
from pantskit.check.findings import Finding, Severity
from pantskit.check.settings import CheckSettings
from pantskit.core.dataset import Dataset
from pantskit.core.files import write_text
from pantskit.core.labels import STRUCTURES
from pantskit.core.records import versions

if TYPE_CHECKING:
    from pantskit.check.dataset import CheckResult

# So many cards are enough for a page.
SHOWN = 2000


def write_page(
    out: Path,
    result: CheckResult,
    dataset: Dataset,
    settings: CheckSettings,
    pictures: Mapping[Finding, Path],
) -> Path:
    """Write `out/index.html`.

    Args:
        out: folder of the check.
        result: what was found.
        dataset: what was checked.
        settings: of the check.
        pictures: finding to its picture.

    Returns:
        Path of the page.
    """
    from jinja2 import Environment, StrictUndefined

    template = (resources.files("pantskit.check") / "templates" / "index.html.j2").read_text(
        "utf-8"
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    by_name = {r.name: r for r in settings.rules()}
    shown = in_lines(result.findings)[:SHOWN]
    text = environment.from_string(template).render(
        name=str(dataset.info.get("name", dataset.root.name)),
        cases=len(result.run.records),
        clean=_clean(result),
        counts=result.counts,
        accepted=sum(bool(f.accepted) for f in result.findings),
        outdated=result.outdated,
        not_done=[(r.case_id, r.message) for r in result.run.not_done],
        rules=_rule_rows(result, by_name),
        findings=[_card(line, by_name, pictures.get(line.first)) for line in shown],
        left_out=len(result.findings) - sum(len(line.findings) for line in shown),
        severities=[str(s) for s in Severity],
        structures=[s for s in STRUCTURES if any(s in line.structures for line in shown)],
        versions=versions(),
    )
    page = out / "index.html"
    write_text(page, text)
    return page


def _clean(result: CheckResult) -> int:
    """Cases without an open error or warning."""
    touched = {f.case_id for f in result.open if f.severity is not Severity.INFO}
    return sum(r.case_id not in touched for r in result.run.records)


def _rule_rows(result: CheckResult, by_name: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a rule with open findings: by the worst of them, then by their number."""
    order, rows = list(Severity), []
    for name, number in Counter(f.rule for f in result.open).most_common():
        some = [f for f in result.open if f.rule == name]
        rows.append(
            {
                "name": name,
                "severity": str(min((f.severity for f in some), key=order.index)),
                "reason": by_name[name].reason if name in by_name else "",
                "findings": number,
                "cases": len({f.case_id for f in some}),
            }
        )
    return sorted(rows, key=lambda row: order.index(row["severity"]))


def _card(line: Line, by_name: Mapping[str, Any], picture: Path | None) -> dict[str, Any]:
    known = by_name.get(line.first.rule)
    return {
        "finding": line.first,
        "structures": " ".join(line.structures),
        "message": line.message(),
        "reason": known.reason if known else "",
        "standard": known.standard if known else "",
        "picture": "" if picture is None else _inline(picture),
    }


def _inline(path: Path) -> str:
    """A picture as part of the page, a third of the size of its PNG."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
