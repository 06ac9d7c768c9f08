"""All kinds of planted faults, and the rule that each ought to be found by.

The kinds were written from the annotation standard and from what users of public releases reported,
by someone who had not read the rules; only the last table was filled from the rules' names, before
it was known which of them fire.
"""

from __future__ import annotations

import planted_anatomy
import planted_content
import planted_files
import planted_masks
from planted_case import KINDS, Kind

# Importing the modules is what fills the list.
MODULES = (planted_files, planted_masks, planted_anatomy, planted_content)

OUGHT: dict[str, tuple[str, ...]] = {}


def all_kinds(names: list[str] | None = None) -> list[Kind]:
    """The kinds, or those whose name begins with one of these.

    Raises:
        SystemExit: If none does.
    """
    found = [k for k in KINDS if not names or any(k.name.startswith(n) for n in names)]
    if not found:
        raise SystemExit(f"no kind is called {' or '.join(names or [])}")
    return found
