"""Label schemes: which structures a network learns, and by which kind of heads."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pantskit.core.errors import ConfigError, LabelError
from pantskit.core.labels import STRUCTURES, require_structure

HEADS = ("softmax", "regions")
_SHORT = {"2": "pancreas-tumor"}  # by its number of classes, as the paper's 28
_KEYS = ("title", "heads", "structures", "required")


@dataclass(frozen=True)
class Scheme:
    """A label scheme.

    Attributes:
        name: of the scheme; of a file, without its suffix.
        structures: to learn, where a case annotates them.
        title: for people.
        heads: `"softmax"`: one channel a structure and one for the background, masks painted
            into one map in the paint order. `"regions"`: a channel a structure, each yes or no;
            the pancreas's holds its members.
        required: structures that some case must annotate, for the training to make sense.
    """

    name: str
    structures: tuple[str, ...]
    title: str = ""
    heads: str = "softmax"
    required: tuple[str, ...] = ()

    @classmethod
    def read(cls, source: str) -> Scheme:
        """A scheme by its name, or from a TOML file.

        Raises:
            ConfigError: If there is no such scheme, or a key or value is wrong.
        """
        source = _SHORT.get(source, source)
        if source in known_schemes():
            file = resources.files("pantskit.train") / "schemes" / f"{source}.toml"
            return cls.parse(file.read_text("utf-8"), source)
        if not source.endswith(".toml"):
            raise ConfigError(
                f"label scheme {source!r} is not known; use {', '.join(known_schemes())} or a "
                ".toml file"
            )
        try:
            return cls.parse(Path(source).read_text("utf-8"), Path(source).stem)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ConfigError(f"label scheme {source}: cannot be read: {reason}") from None

    @classmethod
    def parse(cls, text: str, name: str) -> Scheme:
        """A scheme from TOML text.

        Raises:
            ConfigError: If the text is not TOML, or a key or value is wrong.
        """
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"label scheme {name}: not TOML: {error}") from None
        unknown = sorted(set(values) - set(_KEYS))
        if unknown:
            raise ConfigError(
                f"label scheme {name}: {unknown[0]!r} is no setting; there are {', '.join(_KEYS)}"
            )
        heads = values.get("heads", "softmax")
        if heads not in HEADS:
            raise ConfigError(
                f"label scheme {name}: heads {heads!r}; expected {' or '.join(HEADS)}"
            )
        structures = _structures(name, "structures", values.get("structures", []))
        required = _structures(name, "required", values.get("required", []))
        if not structures:
            raise ConfigError(f"label scheme {name}: structures are missing")
        if not set(required) <= set(structures):
            raise ConfigError(f"label scheme {name}: required {list(required)} are not all learned")
        return cls(name, structures, str(values.get("title", "")), heads, required)


def known_schemes() -> tuple[str, ...]:
    """Names of the schemes that come with the package."""
    folder = resources.files("pantskit.train") / "schemes"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


def _structures(name: str, key: str, value: Any) -> tuple[str, ...]:
    if value == "all":
        return tuple(STRUCTURES)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f'label scheme {name}: {key} must be "all" or a list of names')
    try:
        found = tuple(require_structure(item) for item in value)
    except LabelError as error:
        raise ConfigError(f"label scheme {name}: {error}") from None
    twice = sorted({s for s in found if found.count(s) > 1})
    if twice:
        raise ConfigError(f"label scheme {name}: {twice[0]} is there twice in {key}")
    return found
