"""The commands: a file each, which parses, calls its stage and reports."""

from __future__ import annotations


def main() -> None:
    """Run the command line.

    Imported here, as every worker process runs the script of the command before it begins.
    """
    from pantskit.core.imports import without_collecting

    with without_collecting():
        from pantskit.cli.app import main as run

    run()
