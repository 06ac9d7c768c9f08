"""`pantskit phantom`: synthetic patients whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Option(help="Folder of the dataset to write.")],
    cases: Annotated[int, typer.Option(help="Scans to make.")] = 20,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    size: Annotated[
        str, typer.Option(help="small (about 96 x 84 x 80) or full (512 x 512 x 300).")
    ] = "small",
    dicom: Annotated[
        Path | None,
        typer.Option(help="Also write the raw deliveries here: DICOM with identifiers, masks."),
    ] = None,
    tumor_rate: Annotated[float, typer.Option(help="Share of patients with a tumour.")] = 0.11,
    sites: Annotated[int, typer.Option(help="Hospitals, 1 to 4.")] = 3,
    test_site: Annotated[
        str | None, typer.Option(help="Site that becomes the test split (default: the last).")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="Share of patients in the test split, in place of a site.")
    ] = None,
    refine: Annotated[
        int | None,
        typer.Option(
            help="Samples a voxel edge for the true volumes; 1: voxels as drawn; 0: tumours' only. "
            "[default: 2 for small, 1 for full]"
        ),
    ] = None,
    paint: Annotated[
        Path | None,
        typer.Option(help="Paint CTs from these labels instead: a case's folder, many, or a map."),
    ] = None,
    phase: Annotated[str, typer.Option(help="Contrast phase of painted CTs.")] = "portal_venous",
    label_map: Annotated[
        str | None, typer.Option(help="What the ids mean, where the labels do not say.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0: this one.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Make synthetic patients with all 28 structures, exact truth and known tumours.

    The same seed and case number give the same scan, however many cases or workers. With
    --paint, CTs with real anatomy are painted from the labels of real patients.

    Examples:

        pantskit phantom --out cohort --cases 20 --seed 1 --dicom deliveries --workers 2
        pantskit phantom --out painted --paint PanTS_00000035 --phase arterial
    """
    import json

    from pantskit.cli.progress import case_progress, report_cases

    with case_progress("phantom" if paint is None else "paint", quiet=as_json) as progress:
        if paint is None:
            from pantskit.phantom.cohort import make_cohort
            from pantskit.phantom.scans import CohortPlan

            plan = CohortPlan(
                cases=cases,
                seed=seed,
                size=size,
                tumor_rate=tumor_rate,
                sites=sites,
                test_site=test_site,
                test_fraction=test_fraction,
            )
            summary = make_cohort(
                plan, out, dicom=dicom, refine=refine, workers=workers, progress=progress
            )
        else:
            from pantskit.core.labels import LabelMap
            from pantskit.phantom.paint_dataset import paint_dataset

            summary = paint_dataset(
                paint,
                out,
                phase=phase,
                seed=seed,
                label_map=LabelMap.parse(label_map) if label_map else None,
                workers=workers,
                progress=progress,
            )
    if as_json:
        facts = {
            "out": str(out),
            "dicom": dicom and str(dicom),
            "counts": summary.counts,
            "failed": {r.case_id: r.message for r in summary.not_done},
        }
        typer.echo(json.dumps(facts, indent=2))
    else:
        report_cases(summary, where=f" in {out}")
    raise typer.Exit(summary.exit_status)
