"""Words that ingest itself may write, which therefore say nothing about a patient.

The leak scan looks for values of the source in what was written. A value made of nothing but
our own words (`AXIAL`, `ABDOMEN`, `train`) cannot be told from them and is not looked for. The
words are read from the package's own code and tables, so that the list is never out of date.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib import resources
from itertools import permutations, product

from pydicom._uid_dict import UID_dictionary

from pantskit.ingest.facts.vocabulary import output_words

# Packages whose words can reach a record, a table or a message of ingest.
_PACKAGES = ("core", "ingest", "measure")
# `Mann`, `August`, `Li`: read, and never written by ingest.
_ONLY_READ = {"vocabulary.toml", "written_forms.py", "table3.toml"}
# Folders that describe public datasets: they cite authors (`Li`, `Ma`), towns and hospitals.
_NAME_PEOPLE = {"sources", "download", "published"}

_NOT_CODE = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""|#[^\n]*')
_WORD = re.compile(r"[a-z0-9]+")

# Words that stand where a name should be.
_PLACEHOLDERS = (
    "anonymous anonymized anonymised anon anonym unknown none null patient phantom test case name "
    "nobody default subject volunteer demo sample doe prof med dipl ing mrs the and von van der "
    "den del della dos das bin ibn"
)
PLACEHOLDERS = frozenset(_PLACEHOLDERS.split())

# What records call the axes of a source: `LPS`, but also `LIA` and `ALI`, which are names.
_ORIENTATIONS = {
    "".join(ends) for axes in permutations(("lr", "pa", "si")) for ends in product(*axes)
}

_SHORTEST_PART = 4  # of words that are run together


@cache
def own_words() -> frozenset[str]:
    """Every word of our code, without docstrings and comments, and of our tables; lower case.

    Numbers count where a table holds them (`MX 8000`), and not where code does.
    """
    names = " ".join(entry[0].lower() for entry in UID_dictionary.values())
    code = _NOT_CODE.sub("", "\n".join(_texts(".py"))).lower()
    words = {w for w in _WORD.findall(f"{code} {names}") if not w.isdigit()}
    return frozenset(words | _table_words() | PLACEHOLDERS | _ORIENTATIONS)


@lru_cache(maxsize=100_000)
def is_own(word: str) -> bool:
    """Whether a word is ours: as it is, or terms of our tables run together and numbered.

    `portalvein` and `livertumor1` are names of masks, which records repeat.
    """
    return word in own_words() or _run_together(re.sub(r"\d{1,2}$", "", word))


def shown_name(name: str, number: int) -> str:
    """A mask's name for records and messages: as it is when made of our words, else its number.

    Names of files are free text, and a record repeats no word that could be somebody's.
    """
    words = _WORD.findall(name.lower())
    return name if words and all(is_own(w) for w in words) else f"mask {number}"


def _run_together(word: str) -> bool:
    table = _table_words()
    if not word.isalpha() or len(word) < _SHORTEST_PART:
        return False
    if word in table:
        return True
    ends = range(_SHORTEST_PART, len(word) - _SHORTEST_PART + 1)
    return any(word[:end] in table and _run_together(word[end:]) for end in ends)


@cache
def _table_words() -> frozenset[str]:
    """Words of structures, label maps and codes; with what masks are called."""
    text = "\n".join((*_texts(".toml"), output_words()))
    found = _WORD.findall(text.lower())
    return frozenset({*found, "system", "tree", "segment"})


def _texts(suffix: str) -> list[str]:
    folders = [resources.files("pantskit") / package for package in _PACKAGES]
    found = []
    for folder in folders:  # grows
        for entry in folder.iterdir():
            if entry.name in _NAME_PEOPLE:
                continue
            if entry.is_dir():
                folders.append(entry)
            elif entry.name.endswith(suffix) and entry.name not in _ONLY_READ:
                found.append(entry.read_text("utf-8"))
    return found
