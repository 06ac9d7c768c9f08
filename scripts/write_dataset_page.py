"""Write the list of docs/datasets.md again from the declarations of the datasets."""

from __future__ import annotations

from pathlib import Path

from pantskit.ingest.sources.catalogue import catalogue_page

PAGE = Path(__file__).parents[1] / "docs" / "datasets.md"


def main() -> None:
    """Keep what stands above the first dataset and replace the rest."""
    text = PAGE.read_text("utf-8")
    head = text[: text.index("\n## ", text.index("# The datasets"))]
    PAGE.write_text(f"{head}\n{catalogue_page()}", "utf-8")


if __name__ == "__main__":
    main()
