"""Words that ingest itself may write, which therefore say nothing about a patient.

The leak scan looks for values of the source in what was written. A value made of nothing but
our own words (`AXIAL`, `ABDOMEN`, `train`) cannot be told from them and is not looked for. The
words are read from the package's own code and tables, so that the list is never out of date.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from pydicom._uid_dict import UID_dictionary

from pantskit.ingest.vocabulary import output_words

# Packages whose words can reach a record, a table or a message of ingest.
_PACKAGES = ("core", "ingest", "measure")
_SUFFIXES = (".py", ".toml")

_NOT_CODE = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""|#[^\n]*')
_WORD = re.compile(r"[a-z0-9]+")

# Words that stand where a name should be.
_PLACEHOLDERS = (
    "anonymous anonymized anonymised anon anonym unknown none null patient phantom test case name "
    "nobody default subject volunteer demo sample doe prof med dipl ing mrs the and von van der "
    "den del della dos das bin ibn"
)
PLACEHOLDERS = frozenset(_PLACEHOLDERS.split())


@cache
def own_words() -> frozenset[str]:
    """Every word of our code, without docstrings and comments, and of our tables; lower case.

    Numbers count where a table holds them (`MX 8000`), and not where code does.
    """
    found: set[str] = set()
    for package in _PACKAGES:
        for name, text in _texts(resources.files("pantskit") / package):
            if name == "vocabulary.toml":  # it reads `Mann` and `Kopf`, and writes neither
                text = output_words()
            code = name.endswith(".py")
            words = _WORD.findall((_NOT_CODE.sub("", text) if code else text).lower())
            found |= {w for w in words if not (code and w.isdigit())}
    names = (word for entry in UID_dictionary.values() for word in _WORD.findall(entry[0].lower()))
    return frozenset(found | {w for w in names if not w.isdigit()} | PLACEHOLDERS)


def _texts(folder: Traversable) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _texts(entry)
        elif entry.name.endswith(_SUFFIXES):
            found.append((entry.name, entry.read_text("utf-8")))
    return found
