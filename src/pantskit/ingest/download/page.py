"""The part of docs/download.md that follows from the declarations."""

from __future__ import annotations

from pantskit.ingest.download.declared import Download, RemoteFile, known_downloads
from pantskit.ingest.download.plan import gigabytes


def download_page() -> str:
    """What can be fetched and what cannot, in Markdown."""
    open_ones = [one for one in known_downloads() if one.files]
    others = [one for one in known_downloads() if not one.files]
    rows = ["| dataset | get its archives at |", "|---|---|"]
    rows += [f"| `{one.source.name}` | <{one.where}> {one.source.terms} |" for one in others]
    parts = [_section(one) for one in open_ones]
    return "\n\n".join([*parts, "## Taken from a folder (`--from`)", "\n".join(rows)]) + "\n"


def _section(one: Download) -> str:
    rows = ["| file | kind | size | unpacked | checksum |", "|---|---|---|---|---|"]
    rows += [_row(file) for file in one.files]
    lines = [f"## {one.source.title} (`{one.source.name}`)", "", *rows, ""]
    lines += [f"- Addresses, sizes, checksums: {one.status}. {one.seen_in}."]
    lines += [f"- {note}" for note in one.notes]
    lines += [f"- Licence: {one.source.license}. {one.source.terms}".rstrip()]
    return "\n".join(lines)


def _row(file: RemoteFile) -> str:
    size = gigabytes(file.size) if file.size else "not known"
    unpacked = gigabytes(file.unpacked) if file.unpacked else ""
    checksum = "SHA-256" if file.sha256 else "MD5" if file.md5 else "none"
    kind = file.kind or "all"
    return f"| [`{file.name}`]({file.url}) | {kind} | {size} | {unpacked} | {checksum} |"
