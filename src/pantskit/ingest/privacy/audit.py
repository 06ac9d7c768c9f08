"""What the record of a case says of its de-identification: rules, counts and the scan; no value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pantskit import __version__
from pantskit.ingest.dicom.headers import ImageHeader
from pantskit.ingest.privacy.identifiers import Census, Identifiers
from pantskit.ingest.privacy.leaks import LeakScan

# Raised when what comes out of a header, or how, becomes another.
RULES_VERSION = 2

# The rules by name, as docs/ingest.md explains them.
RULES = {
    "headers": "allow-list: facts through a vocabulary, numbers within bounds, nothing else",
    "names": "keyed pseudonyms (HMAC-SHA256); the key lies outside the dataset",
    "dates": "the year of the study alone; in a DICOM export dates moved by a keyed number of days",
    "ages": "whole years, 90 for 90 and over",
    "pixels": "of images with burned-in annotations by class or ImageType none is taken",
    "scan": "every value read is looked for in all that was written, decompressed",
}


def audit_record(
    slices: Sequence[ImageHeader],
    facts: Mapping[str, Any],
    identifiers: Identifiers,
    scan: LeakScan,
    *,
    export: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The audit of one case, for its record.

    Args:
        slices: headers of the series; empty for an image that is no DICOM.
        facts: what came out of the header.
        identifiers: what was looked for, before what can be told from our own words went.
        scan: after it has looked through everything of the case and found nothing; a case with
            a leak has no audit but its message.
        export: what `export_series` returned, or None.
        flags: what others found that a reader of the case must know: `lossy`, `head_in_view`.

    Returns:
        `rules` (version), `facts` (names of those that came out), `read` (elements, private
        elements and identifying elements of all headers, none of which was kept, and the values
        looked for by the kind of attribute), `scan` (values, files, bytes, texts, leaks),
        `dates`, `export`, and the flags.
    """
    looked = scan.looked
    return {
        "rules": RULES_VERSION,
        "version": __version__,
        "facts": sorted(name for name, value in facts.items() if value is not None),
        "read": {**_read(slices), "identifying_values": _by_kind(identifiers)},
        "scan": {
            "values": scan.needles,
            "files": looked.files,
            "bytes": looked.bytes_read,
            "texts": looked.texts,
            "leaks": 0,
        },
        "dates": "moved" if export and export.get("dates") == "moved" else "year of study only",
        "export": dict(export) if export else None,
        **(flags or {}),
    }


def _read(slices: Sequence[ImageHeader]) -> dict[str, int]:
    """Elements of the files, each counted once: the frames of an object share its header."""
    total = Census()
    for header in {h.file: h for h in slices}.values():
        total += header.census
    return {
        "elements": total.elements,
        "private_elements": total.private,
        "identifying_elements": total.identifying,
    }


_KINDS = {
    "file name": "file and folder names",
    "folder name": "file and folder names",
    "clinical table": "clinical table",
    "private": "private elements",
    "preamble": "preamble",
}


def _by_kind(identifiers: Identifiers) -> dict[str, int]:
    return dict(Counter(_KINDS.get(a, "public elements") for a in identifiers.values()))


def dataset_statement(audits: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What dataset.json says of the de-identification of the whole dataset.

    Args:
        audits: of all its cases, from their records.

    Returns:
        The rules in words, versions, and sums over the cases: elements read, values looked for,
        files and bytes looked through, leaks (0), and how many cases have a DICOM export.
    """
    audits = list(audits)
    sums: Counter[str] = Counter()
    for audit in audits:
        sums.update({key: audit["read"][key] for key in ("elements", "private_elements")})
        sums.update({f"scanned_{key}": audit["scan"][key] for key in ("values", "files", "bytes")})
        sums["leaks"] += audit["scan"]["leaks"]
        sums["dicom_exports"] += audit.get("export") is not None
    return {
        "rules": RULES,
        "rules_versions": sorted({audit["rules"] for audit in audits}),
        "versions": sorted({audit["version"] for audit in audits}),
        "cases": len(audits),
        **sums,
    }
