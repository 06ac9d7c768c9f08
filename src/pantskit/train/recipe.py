"""Recipes: everything a training is set to, as one value read from TOML."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pantskit.core.errors import ConfigError
from pantskit.core.files import write_text
from pantskit.networks.architectures import ARCHITECTURES, Architecture, find_architecture

DEFAULT_RECIPE = "paper"
DEFAULT_ARCHITECTURE = "nnunet"
_AXES = {"i", "j", "k"}


@dataclass(frozen=True)
class Recipe:
    """Settings of a training. The defaults are nnU-Net's, which are the paper's.

    Attributes:
        name: of the recipe.
        epochs: number of epochs.
        iterations: optimiser steps an epoch.
        validation: `"fold"` keeps the patients of one fold out of the training for the
            learning curve; `"none"` trains on every case, and the curve's Dice is that of
            training cases.
        folds: how many there are.
        fold: which is kept out, from 0.
        validation_iterations: patches scored after each epoch; 0 for none.
        optimizer: `"sgd"` (Nesterov) or `"adamw"`.
        learning_rate: the highest.
        momentum: of SGD.
        weight_decay: of either.
        schedule: `"poly"` (nnU-Net's decay, an epoch a step) or `"one_cycle"` (linear
            warm-up, then cosine to 0, an iteration a step).
        augmentation: `"nnunet"`, `"light"` (small rotations, scaling, brightness, noise) or
            `"none"`.
        mirror_axes: axes of the volume mirrored in training and prediction; i is left-right
            in a standard dataset, j front-back, k head-foot.
        deep_supervision: loss at lower resolutions too.
        oversample_foreground: share of patches around a structure, rounded to whole patches
            of a batch.
        architecture: of the network, see `pantskit.networks.architectures`.
        pretrained: file of a self-supervised encoder's weights to begin with; empty for none.
        batch_size: patches an iteration; 0 leaves it to nnU-Net's planner.
        patch_size: voxels along (i, j, k); empty leaves it to the planner.
        spacing: mm along (i, j, k) of the network's input; empty leaves it to the planner.
        features: channels of the first stage, doubled at each, at most `max_features`; of
            networks that are not nnU-Net's, 32 is their published width, and others scale it.
        max_features: channels of the deepest stages.
        convolutions: per stage, in the encoder.
        decoder_convolutions: per stage, in the decoder.
        batch_dice: Dice loss over the batch as one image; None leaves it to the planner.
        output_bias: `"zero"` (nnU-Net's), or `"prior"`: the last layer starts with the
            logarithm of each structure's share of the training voxels, which saves a short
            training the iterations to learn that most voxels are background.
        gpu_memory_gb: that the planner fills; 0 leaves it to the architecture (8; 24 of
            `resenc-l`, 40 of `resenc-xl`).
        intensity_samples: voxels of structures, over all cases, that HU statistics are taken
            from.
        save_every: epochs between checkpoints of a running training.
        mixed_precision: on a GPU, halves where they are precise enough; a CPU takes float32.
        compile: the network, on a GPU.
    """

    name: str = DEFAULT_RECIPE
    epochs: int = 1000
    iterations: int = 250
    validation: Literal["fold", "none"] = "fold"
    folds: int = 5
    fold: int = 0
    validation_iterations: int = 50
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.99
    weight_decay: float = 3e-5
    schedule: Literal["poly", "one_cycle"] = "poly"
    augmentation: Literal["nnunet", "light", "none"] = "nnunet"
    mirror_axes: tuple[str, ...] = ("i", "j", "k")
    deep_supervision: bool = True
    oversample_foreground: float = 0.33
    architecture: str = DEFAULT_ARCHITECTURE
    pretrained: str = ""
    batch_size: int = 2
    patch_size: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    features: int = 32
    max_features: int = 320
    convolutions: int = 2
    decoder_convolutions: int = 2
    batch_dice: bool | None = None
    output_bias: Literal["zero", "prior"] = "zero"
    gpu_memory_gb: float = 0.0
    intensity_samples: int = 100_000_000
    save_every: int = 50
    mixed_precision: bool = True
    compile: bool = True

    def __post_init__(self) -> None:
        positive = ("epochs", "iterations", "learning_rate", "features", "convolutions",
                    "max_features", "decoder_convolutions", "save_every")  # fmt: skip
        for name in positive:
            if getattr(self, name) <= 0:
                raise ConfigError(
                    f"recipe {self.name}: {name} must be above 0, not {getattr(self, name)}"
                )
        for name in ("patch_size", "spacing"):
            value = getattr(self, name)
            if value and (len(value) != 3 or min(value) <= 0):
                raise ConfigError(
                    f"recipe {self.name}: {name} must be three numbers above 0, not {list(value)}"
                )
        if self.folds < 2 or not 0 <= self.fold < self.folds:
            raise ConfigError(
                f"recipe {self.name}: fold {self.fold} of {self.folds} is none; there are 2 folds "
                "or more, the first is 0"
            )
        self._check_network()
        if self.patch_size and min(self.patch_size) < 8:
            raise ConfigError(
                f"recipe {self.name}: patch_size {list(self.patch_size)} is below 8 voxels"
            )
        if not set(self.mirror_axes) <= _AXES:
            raise ConfigError(
                f"recipe {self.name}: mirror_axes {list(self.mirror_axes)} are not i, j or k"
            )

    @property
    def network(self) -> Architecture:
        """The architecture."""
        return find_architecture(self.architecture)

    def describe_arithmetic(self, device_type: str) -> str:
        """How a device computes, for people."""
        if device_type == "cpu":
            return "float32, not compiled: mixed precision and compiling are for GPUs"
        precision = "mixed precision" if self.mixed_precision else "float32"
        return f"{precision}, {'compiled' if self.compile else 'not compiled'}"

    def _check_network(self) -> None:
        """Refuse what the architecture cannot do, before hours are spent."""
        network = self.network
        if self.patch_size:
            network.require_patch(self.patch_size)
        if self.pretrained and not network.encoder:
            able = ", ".join(a.name for a in ARCHITECTURES.values() if a.encoder)
            raise ConfigError(
                f"recipe {self.name}: {self.architecture} takes no pretrained encoder; {able} do"
            )

    @classmethod
    def read(cls, source: str) -> Recipe:
        """A recipe by its name, or from a TOML file.

        Raises:
            ConfigError: If there is no such recipe, or a key or value is wrong.
        """
        if source in known_recipes():
            text = (resources.files("pantskit.train") / "recipes" / f"{source}.toml").read_text()
            return cls.parse(text, source)
        if not source.endswith(".toml"):
            raise ConfigError(
                f"recipe {source!r} is not known; use {', '.join(known_recipes())} or a .toml file"
            )
        try:
            return cls.parse(Path(source).read_text("utf-8"), source)
        except OSError as error:
            raise ConfigError(f"recipe {source}: cannot be read: {error.strerror}") from None

    @classmethod
    def parse(cls, text: str, source: str) -> Recipe:
        """A recipe from TOML text; keys not given keep their defaults.

        Raises:
            ConfigError: If the text is not TOML, or a key or value is wrong.
        """
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"recipe {source}: not TOML: {error}") from None
        hints = get_type_hints(cls)
        unknown = sorted(set(values) - set(hints))
        if unknown:
            raise ConfigError(
                f"recipe {source}: {unknown[0]!r} is no setting; there are {', '.join(hints)}"
            )
        for key, value in values.items():
            values[key] = _checked(key, value, hints[key], source)
        return cls(**{"name": Path(source).stem, **values})

    def changed(self, **values: Any) -> Recipe:
        """The recipe with some settings replaced; None leaves a setting as it is."""
        given = {key: value for key, value in values.items() if value is not None}
        return replace(self, **given)

    def write(self, path: Path) -> None:
        """Write every setting as TOML."""
        lines = [f"{f.name} = {_toml(getattr(self, f.name))}" for f in fields(self)
                 if getattr(self, f.name) is not None]  # fmt: skip
        write_text(path, "\n".join(lines) + "\n")

    def values(self) -> dict[str, Any]:
        """All settings, for records."""
        return asdict(self)


def read_patch(text: str) -> tuple[int, ...]:
    """A patch size from `"64,64,48"`: voxels along i, j, k.

    Raises:
        ConfigError: If it is not three whole numbers.
    """
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(p.strip().isdigit() for p in parts):
        raise ConfigError(f"patch {text!r} is not three whole numbers such as 64,64,48")
    return tuple(int(p) for p in parts)


def known_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    folder = resources.files("pantskit.train") / "recipes"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


def _checked(key: str, value: Any, hint: Any, source: str) -> Any:
    """`value` as the type that the setting has."""
    wrong = ConfigError(f"recipe {source}: {key} = {value!r} is not {_described(hint)}")
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise wrong
        return value
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        if not isinstance(value, list):
            raise wrong
        return tuple(_checked(key, item, kind, source) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kinds = tuple(k for k in (get_args(hint) or (hint,)) if k is not type(None))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise wrong
    return value


def _described(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list of {get_args(hint)[0].__name__}"
    return " or ".join(k.__name__ for k in (get_args(hint) or (hint,)) if k is not type(None))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return repr(value)
