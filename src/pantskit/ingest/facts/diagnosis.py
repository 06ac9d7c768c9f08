"""What a clinical table says was found, and what that rests on, in our words."""

from __future__ import annotations

import re

from pantskit.ingest.facts.vocabulary import patterns, plain_words, vocabulary, words_pattern

_BASES = ("pathology", "follow_up", "report")  # a pathology report is pathology
_CYSTS = frozenset({"IPMN", "MCN", "SCN", "SPN"})

_QUESTION = re.compile(r"[?\uff1f\u061f]")  # the Latin, the wide and the Arabic one


def diagnosis_of(text: str) -> str | None:
    """A diagnosis by the vocabulary; `other` for text that fits none, several, or is in doubt."""
    words = plain_words(text)
    if not words:
        return None
    kinds = dict(patterns("clinical", "diagnosis"))
    normal = kinds.pop("normal")
    if not _QUESTION.search(text) and normal.search(words) and _nothing_else(words, normal):
        return "normal"
    found = {kind for kind, pattern in kinds.items() if pattern.search(words)}
    if found & _CYSTS:
        found.discard("cyst")
    return found.pop() if len(found) == 1 and not _in_doubt(text) else "other"


def _nothing_else(words: str, normal: re.Pattern[str]) -> bool:
    """Whether a patient is normal, and not a finding beside something that is not."""
    beside = words_pattern(vocabulary()["clinical"]["beside_normal"]["words"])
    return not beside.sub(" ", normal.sub(" ", words)).strip()


def _in_doubt(text: str) -> bool:
    doubt = words_pattern(vocabulary()["clinical"]["doubt"]["words"])
    return bool(_QUESTION.search(text) or doubt.search(plain_words(text)))


def basis_of(text: str) -> str | None:
    """What a diagnosis rests on: `pathology`, `follow_up`, `report`; None where not clear."""
    if _in_doubt(text):
        return None
    known, words = patterns("clinical", "diagnosis_basis"), plain_words(text)
    return next((basis for basis in _BASES if known[basis].search(words)), None)


def named_other() -> list[str]:
    """Words for a diagnosis that is known to be another one."""
    return [str(word) for word in vocabulary()["clinical"]["diagnosis"]["other"]]
