"""`pantskit download`: a public dataset from where it lies, unpacked while it arrives."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pantskit.ingest.download.plan import Plan
    from pantskit.ingest.download.run import Meter, Outcome

_LINE_EVERY_S = 15.0


def command(
    name: Annotated[
        str | None, typer.Argument(help="Dataset (see --list): pants, msd, ...")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to unpack into.")] = None,
    images: Annotated[bool, typer.Option("--images", help="The CTs.")] = False,
    labels: Annotated[bool, typer.Option("--labels", help="The labels.")] = False,
    metadata: Annotated[bool, typer.Option("--metadata", help="The tables.")] = False,
    files: Annotated[
        list[str] | None, typer.Option(help="Archives by name, as '*ImageTe*'; may be repeated.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder of archives that you fetched yourself.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show files, sizes and free space; fetch nothing.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Files at a time.")] = 4,
    endpoint: Annotated[
        str,
        typer.Option(envvar="HF_ENDPOINT", help="Hugging Face hub, or a mirror with its paths."),
    ] = "https://huggingface.co",
    revision: Annotated[
        str, typer.Option(help="Revision of the hub's repository, as main; by default a fixed one.")
    ] = "",
    mirror: Annotated[
        str, typer.Option(help="Address of a folder that has all files by their names.")
    ] = "",
    stall: Annotated[
        float, typer.Option(min=0.05, help="Seconds without a byte after which to ask again.")
    ] = 60.0,
    tries: Annotated[int, typer.Option(min=1, help="Tries in a row that bring nothing.")] = 8,
    backoff: Annotated[
        float, typer.Option(min=0.0, help="Seconds before the second try; doubled each time.")
    ] = 1.0,
    list_only: Annotated[
        bool, typer.Option("--list", help="Show what can be fetched, and what needs an account.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fetch the dataset NAME: checked, unpacked while it arrives, and taken up where it stopped.

    A token of the Hugging Face hub is read from HF_TOKEN, a proxy from HTTPS_PROXY.

    Examples:

        pantskit download pants --out PanTS --dry-run
        pantskit download pants --labels --metadata --out PanTS
        pantskit download pants --images --files '*ImageTe*' --out PanTS
        pantskit download lits --from ~/Downloads --out LiTS
    """
    import json

    from pantskit.core.errors import ConfigError
    from pantskit.ingest.download import download, known_downloads, plan_download, read_download

    if list_only:
        typer.echo("\n".join(_listed(known_downloads())))
        raise typer.Exit(0)
    if name is None:
        raise ConfigError("give a dataset's name, or --list to see the names")
    if out is None:
        raise ConfigError("give the folder to unpack into with --out")
    chosen = {"images": images, "labels": labels, "metadata": metadata}
    plan = plan_download(
        read_download(name, endpoint=endpoint, revision=revision, mirror=mirror),
        out,
        kinds=tuple(kind for kind, wanted in chosen.items() if wanted),
        names=tuple(files or ()),
        folder=folder,
    )
    if dry_run:
        typer.echo(json.dumps(_plan_record(plan), indent=2) if as_json else _plan_text(plan))
        raise typer.Exit(0)
    link = _link(endpoint, stall_s=stall, tries=tries, backoff_s=backoff)
    with _progress(quiet=as_json) as progress:
        outcomes = download(plan, link, jobs=jobs, progress=progress)
    failed = [o for o in outcomes if o.status == "failed"]
    for outcome in failed:
        typer.echo(f"failed: {outcome.name}: {outcome.message}", err=True)
    typer.echo(
        json.dumps(_outcome_record(plan, outcomes), indent=2)
        if as_json
        else "\n".join(_outcome_lines(plan, outcomes))
    )
    raise typer.Exit(1 if failed else 0)


def _link(endpoint: str, **how: Any) -> Any:
    """How servers are asked; the hub's token goes to the hub alone."""
    import os
    from urllib.parse import urlsplit

    from pantskit.ingest.download.remote import Link

    token = os.environ.get("HF_TOKEN", "").strip()
    return Link(token=token, token_host=urlsplit(endpoint).netloc, **how)


def _listed(downloads: Any) -> list[str]:
    from pantskit.ingest.download.plan import gigabytes

    rows = [("name", "archives", "to fetch", "addresses", "where")]
    for one in downloads:
        sizes = [f.size for f in one.files]
        size = sum(s or 0 for s in sizes)
        known = gigabytes(size) if size else "not known"
        rows.append(
            (
                one.source.name,
                str(len(sizes)) if sizes else "--from",
                f"{known}{' and more' if size and None in sizes else ''}" if sizes else "",
                one.status if sizes else "",
                "open" if sizes else one.where,
            )
        )
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        "  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return [
        *lines,
        "",
        "addresses: seen in a public source that is named in docs/download.md, or partial.",
        "--from: no open address is declared, most ask for an account; fetch the archives there,",
        "then pantskit download NAME --from FOLDER --out DIR unpacks and checks them.",
    ]


def _plan_text(plan: Plan) -> str:
    from pantskit.ingest.download.plan import gigabytes

    lines = []
    for row in plan.rows():
        size = gigabytes(row["bytes"]) if row["bytes"] else "size not known"
        grows = row["unpacked_bytes"] and row["unpacked_bytes"] != row["bytes"]
        unpacked = f", {gigabytes(row['unpacked_bytes'])} unpacked" if grows else ""
        there = f", {gigabytes(row['on_disk_bytes'])} there" if row["on_disk_bytes"] else ""
        lines.append(
            f"{row['name']}  {row['kind']}  {size}{unpacked}  {row['state']}{there}  {row['from']}"
        )
    source = plan.download.source
    unknown = f" and what {len(plan.unknown)} files hold" if plan.unknown else ""
    lines += [
        "",
        f"to fetch: {gigabytes(plan.to_fetch)}; to write: {gigabytes(plan.to_write)}{unknown}",
        f"into: {plan.out.absolute()}, where {gigabytes(plan.free)} are free",
        f"licence: {source.license}. {source.terms}".rstrip(),
        f"known from: {plan.download.status}. {plan.download.seen_in}",
        *plan.download.notes,
    ]
    return "\n".join(lines)


def _plan_record(plan: Plan) -> dict[str, Any]:
    return {
        "dataset": plan.download.source.name,
        "out": str(plan.out.absolute()),
        "files": plan.rows(),
        "to_fetch_bytes": plan.to_fetch,
        "to_write_bytes": plan.to_write,
        "size_not_known": list(plan.unknown),
        "free_bytes": plan.free,
        "license": plan.download.source.license,
        "terms": plan.download.source.terms,
    }


def _outcome_record(plan: Plan, outcomes: tuple[Outcome, ...]) -> dict[str, Any]:
    return {
        "dataset": plan.download.source.name,
        "out": str(plan.out.absolute()),
        "files": [
            {"name": o.name, "status": o.status, "message": o.message, **o.facts} for o in outcomes
        ],
        "license": plan.download.source.license,
        "citation": plan.download.source.citation,
    }


def _outcome_lines(plan: Plan, outcomes: tuple[Outcome, ...]) -> list[str]:
    source = plan.download.source
    counts = {s: sum(o.status == s for o in outcomes) for s in ("done", "unchanged", "failed")}
    notes = [f"{o.name}: {o.message}" for o in outcomes if o.status == "unchanged" and o.message]
    notes += [
        f"{o.name}: {o.facts['left_out']} members that have no place in the layout were left out"
        for o in outcomes
        if o.facts.get("left_out")
    ]
    lines = [*notes, "download: " + ", ".join(f"{n} {s}" for s, n in counts.items() if n)]
    if counts["failed"]:
        return [*lines, "what is whole is kept; run the same command again to go on"]
    return [
        *lines,
        f"in {plan.out}; next: pantskit import {source.name} {plan.out} --out DATASET",
        f"licence: {source.license}. {source.terms}".rstrip(),
        f"cite: {source.citation}",
    ]


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Meter], None] | None]:
    """Bytes, rate and time left: a bar on a terminal, a line now and then elsewhere."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        said = time.monotonic()

        def line(meter: Meter) -> None:
            nonlocal said
            meter.rate()
            if time.monotonic() - said >= _LINE_EVERY_S:
                said = time.monotonic()
                typer.echo(_line(meter), err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("download", total=None)
        yield lambda meter: bar.update(
            task, completed=meter.position, total=meter.total or None, description=_line(meter)
        )


def _line(meter: Meter) -> str:
    from pantskit.ingest.download.plan import gigabytes

    left = meter.left_s()
    if left is None:
        remains = "time left not known"
    elif left < 90:
        remains = f"{left:.0f} s left"
    else:
        hours, minutes = divmod(round(left / 60), 60)
        remains = f"{hours} h {minutes} min left" if hours else f"{minutes} min left"
    of = f" of {gigabytes(meter.total)}" if meter.total else ""
    return (
        f"download {meter.done}/{meter.files} files, {gigabytes(meter.position)}{of}, "
        f"{gigabytes(meter.rate())}/s, {remains}"
    )
