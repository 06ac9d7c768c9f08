"""The check of one case: rules over its files, masks and content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pantskit.check.cohort import Measured, measure
from pantskit.check.findings import Finding, Severity, worst_first
from pantskit.check.read import read_case
from pantskit.check.registry import Rule, Scope
from pantskit.check.scan import Scan
from pantskit.check.settings import DEFAULT, CheckSettings
from pantskit.core.dataset import Case
from pantskit.core.geometry import Geometry
from pantskit.core.labels import Mask

IN_MEMORY = (Scope.LABELS, Scope.ANATOMY, Scope.CONTENT)


@dataclass(frozen=True)
class CaseTask:
    """What a worker needs to check a case.

    Attributes:
        case: where its files are.
        metadata: its row.
        tabled: whether the dataset has a metadata table.
        expected: structures that the dataset calls annotated.
        settings: of the check.
    """

    case: Case
    metadata: Mapping[str, Any]
    tabled: bool
    expected: tuple[str, ...]
    settings: CheckSettings


def check_files(task: CaseTask) -> tuple[list[Finding], Measured]:
    """Read a case and apply every rule but those over the dataset.

    Returns:
        Findings, worst first, and the case's numbers.
    """
    files = read_case(
        task.case,
        metadata=task.metadata,
        tabled=task.tabled,
        expected=task.expected,
        ranges=task.settings.plausible(),
    )
    rules = task.settings.rules()
    case_id = task.case.case_id
    found = apply_rules(rules, (Scope.FILES,), case_id, files, task.settings)
    missing = any(f.rule in ("mask-missing", "labels") for f in found)
    if files.scan is not None:
        found += apply_rules(rules, IN_MEMORY, case_id, files.scan, task.settings)
    return worst_first(found), measure(files, told_missing=missing)


def check_arrays(
    masks: Mapping[str, Mask],
    geometry: Geometry,
    *,
    ct: NDArray[Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    case_id: str = "case",
    settings: CheckSettings = DEFAULT,
) -> list[Finding]:
    """Apply the rules of labels, anatomy and content to a case in memory.

    Args:
        masks: annotated structures, empty ones included; (i, j, k) bool.
        geometry: their grid.
        ct: (i, j, k) HU on the same grid.
        metadata: the case's row, in the column names of a dataset of ours.
        case_id: for the findings.
        settings: of the check.

    Returns:
        Findings, worst first.
    """
    scan = Scan.from_masks(
        case_id, geometry, masks, ct=ct, metadata=metadata, ranges=settings.plausible()
    )
    return worst_first(apply_rules(settings.rules(), IN_MEMORY, case_id, scan, settings))


def apply_rules(
    rules: Iterable[Rule],
    scopes: tuple[Scope, ...],
    case_id: str,
    view: Any,
    settings: CheckSettings,
) -> list[Finding]:
    """What the rules of some scopes find; a rule that breaks is a finding, not the run's end."""
    found: list[Finding] = []
    for each in (r for r in rules if r.scope in scopes):
        try:
            found += each.findings(
                case_id,
                view,
                limits=settings.limits.get(each.name, {}),
                severity=settings.severity.get(each.name),
            )
        except Exception as error:  # of a rule of one's own, too: the others still count
            text = f"the rule could not be applied: {type(error).__name__}: {error}"
            found.append(Finding(case_id, each.name, Severity.WARNING, text))
    return found
