"""Words in many languages to the few values that may come out for them."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

# Letters that no decomposition turns into plain ones.
_PLAIN = str.maketrans({"ł": "l", "ı": "i", "ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "đ": "d"})
# Scripts that write no space between words, or put prefixes onto them.
_UNSPACED = re.compile(r"[\u0590-\u05ff\u3040-\u30ff\u3400-\u9fff]")


@cache
def vocabulary() -> Mapping[str, Any]:
    """The tables of data/vocabulary.toml."""
    text = (resources.files("pantskit.ingest") / "data" / "vocabulary.toml").read_text("utf-8")
    return tomllib.loads(text)


def plain_words(text: str) -> str:
    """Lower case without accents, punctuation as spaces: `portal-venös` is `portal venos`."""
    lowered = unicodedata.normalize("NFKD", text.lower()).translate(_PLAIN)
    bare = "".join(c for c in lowered if not unicodedata.combining(c))
    return re.sub(r"[\W_]+", " ", bare).strip()


def words_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of the words, each standing alone, in what `plain_words` gives."""
    every = list(words)
    anywhere = [word for word in every if _UNSPACED.search(word)]
    alone = "|".join(word for word in every if word not in anywhere)
    return re.compile("|".join([rf"\b(?:{alone})\b", *anywhere] if alone else anywhere))


@cache
def patterns(*table: str) -> Mapping[str, re.Pattern[str]]:
    """The patterns of a table of word lists, by the value that comes out, in its order.

    Args:
        table: its name, outer tables first: `"clinical", "sex"`.
    """
    found: Any = vocabulary()
    for name in table:
        found = found[name]
    return {value: words_pattern(words) for value, words in found.items()}


def output_words() -> str:
    """Every text that may come out of the vocabulary; the words it reads never do."""
    words = vocabulary()
    models, parts, clinical = words["models"], words["body_parts"], words["clinical"]
    return " ".join(
        (
            *words["manufacturers"],
            models["families"],
            models["designations"],
            *models["numbers"],
            *words["phases"],
            "ct angiography",
            *parts,
            *(part.get("region", "") for part in parts.values()),
            *(
                value
                for name in ("sex", "diagnosis", "diagnosis_basis")
                for value in clinical[name]
            ),
        )
    )
