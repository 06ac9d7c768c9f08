"""`pantskit check`: what is wrong or odd in a dataset, and mending what is certain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pantskit.cli.progress import case_progress, report_cases

if TYPE_CHECKING:
    from pantskit.check.dataset import CheckResult
    from pantskit.check.settings import CheckSettings
    from pantskit.core.dataset import Dataset

_NAMED = 6  # structures in one line; the page and the tables name all


def command(
    dataset: Annotated[
        Path | None, typer.Argument(help="Dataset, ours or the public release's folders.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for findings.csv, .parquet, .json, pictures and index.html."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train or test; both by default.")] = None,
    case: Annotated[list[str] | None, typer.Option(help="Case ID; may be repeated.")] = None,
    rule: Annotated[
        list[str] | None, typer.Option(help="Show findings of this rule only; may be repeated.")
    ] = None,
    severity: Annotated[
        list[str] | None, typer.Option(help="error, warning or info only; may be repeated.")
    ] = None,
    structure: Annotated[
        list[str] | None, typer.Option(help="Show findings of this structure only.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="TOML: rules off, severities, limits, ranges.")
    ] = None,
    rules_from: Annotated[
        list[Path] | None, typer.Option(help="Python file with rules of your own.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="CSV of accepted findings: case_id, rule, structure, reason."),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Findings, worst first, that get a picture in --out.")
    ] = 60,
    fix: Annotated[
        Path | None,
        typer.Option(help="Write a new version here with what is certain mended."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --fix: say what would change, write nothing.")
    ] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules and end.")] = False,
    explain: Annotated[str | None, typer.Option(help="Explain one rule and end.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 runs in this one.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check geometry, masks, anatomy and content of every case; exit 1 when there are errors.

    The dataset is only read. Rules, settings and how to write a rule: docs/quality.md.

    Examples:

        pantskit check data/PanTS --out checked
        pantskit check data/PanTS --severity error --structure pancreatic_lesion
        pantskit check --explain parts-borders
        pantskit check data/PanTS --fix data/PanTS-fixed --dry-run
    """
    from dataclasses import replace

    from pantskit.check.settings import CheckSettings
    from pantskit.core.dataset import Dataset

    asked = CheckSettings.read(settings) if settings else CheckSettings()
    asked = replace(asked, rules_from=(*asked.rules_from, *(rules_from or ())))
    if rules or explain:
        _tell_rules(asked, explain)
        return
    if dataset is None:
        raise typer.BadParameter("give the dataset to check", param_hint="DATASET")
    opened = Dataset.open(dataset)
    if fix is not None:
        _require_nothing_else(
            out=out,
            rule=rule,
            severity=severity,
            structure=structure,
            settings=settings,
            rules_from=rules_from,
            baseline=baseline,
        )
        raise typer.Exit(_fix(opened, fix, dry_run, split, case, workers, as_json))
    if dry_run:
        raise typer.BadParameter("needs --fix NEW, too", param_hint="--dry-run")
    _require_known(asked, rule, severity, structure)
    from pantskit.check.dataset import check_dataset

    with case_progress("check", quiet=as_json) as progress:
        result = check_dataset(
            opened,
            out,
            split=split,
            cases=case,
            settings=asked,
            baseline=baseline,
            pictures=pictures,
            workers=workers,
            progress=progress,
        )
    result = result.only(rules=rule, severities=severity, structures=structure)
    _report(result, out, as_json)
    raise typer.Exit(result.exit_status)


def _require_nothing_else(**options: object) -> None:
    """Refuse what `--fix` would pass over in silence."""
    given = [name for name, value in options.items() if value]
    if given:
        name = f"--{given[0].replace('_', '-')}"
        raise typer.BadParameter(
            "says nothing to --fix, which mends what is certain in every case; check the new "
            "version afterwards",
            param_hint=name,
        )


def _require_known(
    asked: CheckSettings,
    rules: list[str] | None,
    severities: list[str] | None,
    structures: list[str] | None,
) -> None:
    from pantskit.check.findings import Severity
    from pantskit.check.registry import require_rules
    from pantskit.core.labels import require_structure

    require_rules(rules or (), asked.rules(), where="--rule")
    for name in severities or ():
        if name not in list(Severity):
            raise typer.BadParameter(
                f"{name!r} is not error, warning or info", param_hint="--severity"
            )
    for name in structures or ():
        require_structure(name)


def _tell_rules(asked: CheckSettings, name: str | None) -> None:
    from pantskit.check.registry import require_rules

    rules = asked.rules()
    if name:
        require_rules([name], rules, where="--explain")
        typer.echo(next(r for r in rules if r.name == name).explain())
        return
    for each in rules:
        typer.echo(f"{each.name:24}{each.severity:9}{each.scope:9}{each.reason}")


def _report(result: CheckResult, out: Path | None, as_json: bool) -> None:
    if as_json:
        import json

        from pantskit.core.files import jsonable

        rows = [f.row() for f in result.findings]
        typer.echo(json.dumps(jsonable({"counts": result.counts, "findings": rows}), indent=2))
        return
    from pantskit.check.alike import in_lines

    for told in in_lines(result.open):
        first = told.first
        at = f" [voxel {first.voxel}]" if first.voxel else ""
        message = told.message(named=_NAMED)
        typer.echo(f"{first.severity}: {first.case_id or 'dataset'}: {first.rule}: {message}{at}")
    for line in result.outdated:
        text = (
            f"baseline: {line.case_id}, {line.rule}, {line.structure or '-'} is not found any more"
        )
        typer.echo(text, err=True)
    report_cases(result.run)
    counts = ", ".join(f"{n} {name}" for name, n in result.counts.items())
    accepted = len(result.findings) - len(result.open)
    more = f", {accepted} accepted" if accepted else ""
    where = f"; written to {out}" if out else ""
    typer.echo(f"findings: {counts}{more}{where}", err=True)


def _fix(
    dataset: Dataset,
    out: Path,
    dry_run: bool,
    split: str | None,
    cases: list[str] | None,
    workers: int,
    as_json: bool,
) -> int:
    from pantskit.check.fix import fix_dataset

    with case_progress("fix", quiet=as_json) as progress:
        summary = fix_dataset(
            dataset,
            out,
            dry_run=dry_run,
            split=split,
            cases=cases,
            workers=workers,
            progress=progress,
        )
    changes = {r.case_id: r.data.get("changes", []) for r in summary.records}
    if as_json:
        import json

        typer.echo(json.dumps(changes, indent=2))
    else:
        for case_id, some in changes.items():
            for change in some:
                counted = change["added"] or change["removed"]
                size = f" (+{change['added']} -{change['removed']} voxels)" if counted else ""
                name = change["structure"] or "files"
                typer.echo(f"{case_id}: {name}: {change['what']}{size}")
        report_cases(summary)
        done = "would be mended" if dry_run else f"mended in {out}"
        typer.echo(f"{sum(map(bool, changes.values()))} cases {done}", err=True)
    return summary.exit_status
