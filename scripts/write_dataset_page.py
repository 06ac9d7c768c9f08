"""Write the lists of docs/datasets.md and docs/download.md again from the declarations."""

from __future__ import annotations

from pathlib import Path

from pantskit.ingest.download.page import download_page
from pantskit.ingest.sources.catalogue import catalogue_page

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Keep what stands above the first dataset and replace the rest."""
    for page, listed in (("datasets.md", catalogue_page()), ("download.md", download_page())):
        text = (DOCS / page).read_text("utf-8")
        head = text[: text.index("\n## ", text.index("# The datasets"))]
        (DOCS / page).write_text(f"{head}\n{listed}", "utf-8")


if __name__ == "__main__":
    main()
