"""The datasets that are declared, by name, and the page that lists them."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pantskit.core.errors import ConfigError
from pantskit.core.labels import LESION
from pantskit.core.published import What, headline_figure
from pantskit.ingest.sources.declaration import Source, read_declaration

_COUNTED: tuple[What, ...] = ("scans", "institutions", "countries")

COMMON_TITLES = {
    "nnunet": "an nnU-Net raw folder, by its dataset.json or --label-map",
    "monai": "a MONAI datalist, by its labels or --label-map",
    "flat": "images/ and labels/, or label maps alone, by what they declare or --label-map",
}


@cache
def known_sources() -> tuple[Source, ...]:
    """All declared datasets, by name."""
    folder = resources.files("pantskit.ingest.sources") / "data"
    with resources.as_file(folder) as path:
        return tuple(read_declaration(file) for file in sorted(path.glob("*.toml")))


def read_source(name: str) -> Source:
    """A dataset by its name, an alias, or the path of a declaration of one's own.

    Raises:
        ConfigError: If there is none, or the declaration cannot be used.
    """
    if name.endswith(".toml"):
        return read_declaration(Path(name))
    wanted = _key(name)
    for source in known_sources():
        if wanted in {_key(n) for n in (source.name, *source.aliases)}:
            return source
    names = ", ".join(source.name for source in known_sources())
    raise ConfigError(
        f"dataset {name!r} is not known; it is one of {names}, {', '.join(COMMON_TITLES)}, or a "
        ".toml file of your own (docs/datasets.md)"
    )


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def catalogue_rows() -> list[dict[str, Any]]:
    """What `pantskit import --list` shows of each dataset."""
    return [
        {
            "name": source.name,
            "aliases": list(source.aliases),
            "title": source.title,
            "scans": headline_figure(source.name, "scans"),
            "structures": list(source.structures),
            "tumours": headline_figure(source.name, "pancreatic_tumours"),
            "draws_pancreatic_tumours": LESION in source.structures,
            "lesion_negative": source.lesion_negative,
            "labels_by": source.origin,
            "license": source.license,
            "terms": source.terms,
            "url": source.url,
            "label_values": source.verified,
            "facts": [vars(fact) for fact in source.facts],
            "layouts": [layout.name for layout in source.layouts],
        }
        for source in known_sources()
    ]


def catalogue_lines() -> list[str]:
    """The same for people: a line a dataset, and what the columns mean."""
    rows = [
        (
            row["name"],
            str(row["scans"] or ""),
            str(len(row["structures"])),
            str(row["tumours"] or "") if row["draws_pancreatic_tumours"] else "",
            row["label_values"],
            row["license"],
            row["url"],
        )
        for row in catalogue_rows()
    ]
    head = ("name", "scans", "structures", "tumours", "label values", "licence", "URL")
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    lines = [
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return [
        *lines,
        "",
        *(f"{name}: {what}" for name, what in COMMON_TITLES.items()),
        "NAME.toml: a dataset of your own, declared as in docs/datasets.md",
        "",
        "scans: as published; structures: of the 28; tumours: scans with a drawn pancreatic one;",
        "label values: seen in a source that is named, partial, or from memory.",
    ]


def catalogue_page() -> str:
    """The section of docs/datasets.md that follows from the declarations, in Markdown."""
    parts = []
    for source in known_sources():
        figures = {what: headline_figure(source.name, what) for what in _COUNTED}
        counts = [f"{n} {what}" for what, n in figures.items() if n is not None]
        rows = [
            f"## {source.title} (`{source.name}`)",
            "",
            f"<{source.url}>" + (f", {', '.join(counts)} as published." if counts else ""),
            "",
            f"- Licence: {source.license}. {source.terms}".rstrip(),
            f"- Structures: {', '.join(source.structures) or 'none of the 28; CTs alone'}.",
            f"- Labels by: {source.origin}"
            + "".join(f"; {s}: {o}" for s, o in source.origins.items())
            + ".",
            f"- Scans without a pancreatic tumour: {_negatives(source)}.",
            *(f"- {note}" for note in source.notes),
            *(f"- {fact.what}: {fact.status}. {fact.source}" for fact in source.facts),
            "",
            f"> {source.citation}",
        ]
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _negatives(source: Source) -> str:
    if source.lesion_negative:
        return "the source says so of all"
    if any(LESION in labels.annotated for labels in source.labelsets.values()):
        return "those in which none is drawn"
    return "not known of any"
