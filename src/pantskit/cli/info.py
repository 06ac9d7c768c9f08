"""`pantskit info`: what a report of a problem needs to say about the installation."""

from __future__ import annotations

from typing import Annotated

import typer

LIBRARIES = ("numpy", "numba", "nibabel", "pydicom", "polars", "torch", "nnunetv2")


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the versions of pantskit and its libraries, the cores and the memory.

    Example:

        pantskit info --json
    """
    import json

    facts = describe_installation()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {'not installed' if value is None else value}")


def describe_installation() -> dict[str, str | int | float | None]:
    """Versions by package (None: not installed), and what this process may use of the machine.

    Versions come from the packages' metadata: importing torch to ask it takes over a second.
    """
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import psutil

    from pantskit import __version__

    facts: dict[str, str | int | float | None] = {
        "pantskit": __version__,
        "python": platform.python_version(),
    }
    for library in LIBRARIES:
        try:
            facts[library] = version(library)
        except PackageNotFoundError:
            facts[library] = None
    facts["platform"] = platform.platform()
    facts["cores"] = len(psutil.Process().cpu_affinity())
    facts["memory_gib"] = round(psutil.virtual_memory().total / 2**30, 1)
    return facts
