"""Which cases of a dataset show one patient, and which are tested elsewhere: a file beside them.

`pantskit duplicates --write` writes it, once it has compared datasets. The tables of a dataset stay
as they are; whoever reads them through `Dataset.metadata` gets these patients.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pantskit.core.errors import DatasetError
from pantskit.core.files import write_json

FILE = "same_patients.json"


@dataclass(frozen=True)
class Copies:
    """What is known of the copies of a dataset's scans.

    Attributes:
        patients: case ID to the patient, where that is not what the tables say.
        held_out: training case to the test case, here or in another dataset, that shows its
            patient; it is not to be trained on.
    """

    patients: Mapping[str, str] = field(default_factory=dict)
    held_out: Mapping[str, str] = field(default_factory=dict)


def read_copies(root: Path) -> Copies:
    """What is known; nothing where there is no file.

    Raises:
        DatasetError: If the file is damaged.
    """
    path = root / FILE
    if not path.is_file():
        return Copies()
    try:
        data = json.loads(path.read_text("utf-8"))
        return Copies(
            {str(c): str(p) for c, p in data["patients"].items()},
            {str(c): str(t) for c, t in data["held_out"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path}: damaged: {error!r}; write it again with `pantskit duplicates --write`"
        ) from None


def write_copies(root: Path, copies: Copies) -> None:
    """Write what is known; no file where nothing is."""
    if copies.patients or copies.held_out:
        write_json(root / FILE, asdict(copies))
    else:
        (root / FILE).unlink(missing_ok=True)
