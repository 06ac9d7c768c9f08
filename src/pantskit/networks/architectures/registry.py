"""The one door for networks: a name, a class, its settings, and the patches it takes.

Plans name the class by its dotted path, so that prediction builds a network of any of them
as it builds nnU-Net's own. An architecture more is an entry more, and an adapter that takes
`input_channels`, `num_classes` and `deep_supervision`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

from pantskit.core.errors import ConfigError

Shape = Sequence[int]
# What a recipe's `features` means: networks have their published width at this number.
FULL_WIDTH = 32
_NEARLY = 0.95  # a GPU sold with 24 GB has 23.6
_ADAPTERS = "pantskit.networks.architectures.monai_networks"


@dataclass(frozen=True)
class Architecture:
    """A kind of network.

    Attributes:
        name: for `--architecture`.
        title: for people, with the source.
        network_class: dotted path of the class; empty where nnU-Net's planner chooses it.
        settings: keyword arguments of the class from the patch and the recipe's `features`.
        planner: nnU-Net's planner: `"plain"`, `"resenc-m"`, `"resenc-l"` or `"resenc-xl"`.
        deep_supervision: whether it can answer at lower resolutions too.
        multiple: each axis of a patch is a multiple of this.
        gpu_memory_gb: that the planner fills unless told otherwise.
        encoder: attribute that holds the encoder, into which self-supervised weights can be
            loaded; empty where there is no such thing.
        package: that must be installed besides.
        presets: names of architectures of which one is taken by the memory, see `preset_for`;
            ascending.
    """

    name: str
    title: str
    network_class: str = ""
    settings: Callable[[Shape, int], dict[str, Any]] = lambda _patch, _features: {}
    planner: str = "plain"
    deep_supervision: bool = True
    multiple: int = 1
    gpu_memory_gb: float = 8.0
    encoder: str = ""
    package: str = ""
    presets: tuple[str, ...] = ()

    def preset_for(self, memory_gb: float) -> str:
        """The largest preset that is planned for no more memory than this; else the smallest."""
        fitting = [
            name
            for name in self.presets
            if ARCHITECTURES[name].gpu_memory_gb <= memory_gb / _NEARLY
        ]
        return fitting[-1] if fitting else self.presets[0]

    def require_installed(self) -> None:
        """Refuse an architecture whose package is missing.

        Raises:
            ConfigError: If it is.
        """
        if self.package and importlib.util.find_spec(self.package) is None:
            raise ConfigError(missing_package(self.name, self.package))

    def require_patch(self, patch: Shape) -> None:
        """Refuse a patch that the network cannot take.

        Args:
            patch: voxels, in any order of axes.

        Raises:
            ConfigError: If an axis is no multiple of `multiple`, or the network's coarsest grid
                would be a single voxel, which its normalisation layers cannot take.
        """
        fitting = self.fitting_patch(patch)
        if tuple(patch) != fitting:
            one = " and more than one of them in all" if self.multiple > 1 else ""
            raise ConfigError(
                f"architecture {self.name} takes patches whose axes are multiples of "
                f"{self.multiple}{one}; {_by(patch)} is not such a patch, {_by(fitting)} is"
            )

    def fitting_patch(self, patch: Shape) -> tuple[int, ...]:
        """The nearest patch that the network takes."""
        sizes = [max(1, round(n / self.multiple)) * self.multiple for n in patch]
        if self.multiple > 1 and prod(sizes) == self.multiple ** len(sizes):
            sizes = [2 * n for n in sizes]
        return tuple(sizes)


def find_architecture(name: str) -> Architecture:
    """An architecture by its name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(f"architecture {name!r} is not known; use {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def missing_package(name: str, package: str) -> str:
    """What to say where a package is missing."""
    return f"{name} is built by {package}, which is not installed; pip install 'pantskit[monai]'"


def _by(patch: Shape) -> str:
    return " x ".join(str(n) for n in patch)


def _scaled(width: int, features: int, step: int) -> int:
    """A width for `features` in place of `FULL_WIDTH`, a multiple of `step`."""
    return max(1, round(width * features / FULL_WIDTH / step)) * step


def _swin_unetr(_: Shape, features: int) -> dict[str, Any]:
    return {"feature_size": _scaled(48, features, 12)}


def _unetr(patch: Shape, features: int) -> dict[str, Any]:
    hidden = _scaled(768, features, 12)  # 12 heads share it
    return {
        "img_size": list(patch),
        "feature_size": _scaled(16, features, 2),
        "hidden_size": hidden,
        "mlp_dim": 4 * hidden,
    }


def _segresnet(_: Shape, features: int) -> dict[str, Any]:
    return {"init_filters": _scaled(32, features, 8)}


def _mednext(variant: str) -> Callable[[Shape, int], dict[str, Any]]:
    def settings(_: Shape, features: int) -> dict[str, Any]:
        # nnU-Net reads the resolutions of deep supervision from the strides.
        strides = [[1, 1, 1], *([[2, 2, 2]] * 4)]
        return {"variant": variant, "init_filters": _scaled(32, features, 2), "strides": strides}

    return settings


def _entries() -> list[Architecture]:
    monai = {"package": "monai"}
    mednext = {"multiple": 16, **monai}
    single: dict[str, Any] = {"deep_supervision": False, **monai}
    return [
        Architecture("nnunet", "nnU-Net's U-Net (Isensee et al., Nature Methods 2021)"),
        Architecture(
            "resenc-m",
            "nnU-Net with a residual encoder, for 8 GB (Isensee et al., MICCAI 2024)",
            planner="resenc-m",
        ),
        Architecture(
            "resenc-l",
            "nnU-Net with a residual encoder, for 24 GB (Isensee et al., MICCAI 2024)",
            planner="resenc-l",
            gpu_memory_gb=24.0,
        ),
        Architecture(
            "resenc-xl",
            "nnU-Net with a residual encoder, for 40 GB (Isensee et al., MICCAI 2024)",
            planner="resenc-xl",
            gpu_memory_gb=40.0,
        ),
        Architecture(
            "resenc",
            "resenc-m, -l or -xl, by the memory of the GPU",
            planner="resenc-m",
            presets=("resenc-m", "resenc-l", "resenc-xl"),
        ),
        Architecture(
            "swin-unetr",
            "Swin UNETR (Hatamizadeh et al., BrainLes 2021; Tang et al., CVPR 2022)",
            f"{_ADAPTERS}.SwinUNETR",
            _swin_unetr,
            multiple=32,
            encoder="swinViT",
            **single,
        ),
        Architecture(
            "unetr",
            "UNETR (Hatamizadeh et al., WACV 2022)",
            f"{_ADAPTERS}.UNETR",
            _unetr,
            multiple=16,
            encoder="vit",
            **single,
        ),
        Architecture(
            "segresnet",
            "SegResNet (Myronenko, BrainLes 2018)",
            f"{_ADAPTERS}.SegResNet",
            _segresnet,
            multiple=8,
            **single,
        ),
        *(
            Architecture(
                f"mednext-{variant}",
                f"MedNeXt {variant.upper()}, kernel 3 (Roy et al., MICCAI 2023)",
                f"{_ADAPTERS}.MedNeXt",
                _mednext(variant),
                **mednext,  # type: ignore[arg-type]
            )
            for variant in "sbml"
        ),
    ]


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType({a.name: a for a in _entries()})
