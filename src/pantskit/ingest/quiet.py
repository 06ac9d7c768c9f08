"""Warnings of the libraries that read sources reach no terminal and no log.

They quote what they stumble on: an encoding that a header names, a date in a cell, a file's path.
What is wrong with a source is said in our words, in its record.
"""

from __future__ import annotations

import logging
import warnings

# Ours, since a warning counts as its caller's; openpyxl reads clinical tables.
_READERS = ("pydicom", "nibabel", "openpyxl", "pantskit.ingest", "pantskit.core")
_LOGS = ("pydicom", "nibabel.global")


def keep_quiet() -> None:
    """Silence them in this process, whatever `-W` says; called before anything is read.

    Not once and for all: whoever restores the filters of another thread takes ours away.
    """
    for name in _READERS:
        warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
    for name in _LOGS:
        logger = logging.getLogger(name)
        logger.disabled, logger.propagate = True, False  # the second is for those below it
