"""nnU-Net's plans: opened, checked, and made into a network.

Trainers are never looked up by name: that imports every trainer, and with them timm and
torchvision, which does not import beside every build of torch.
"""

from __future__ import annotations

import pydoc
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import DatasetError

if TYPE_CHECKING:
    import torch

# Plans name their network by a dotted path, which is imported: only from these places.
NETWORK_PACKAGES = (
    "dynamic_network_architectures.architectures.",
    "pantskit.networks.architectures.",
)
_LAYER_PACKAGE = "torch.nn."
# What prediction reads from plans, of all and of one configuration.
_NEEDED = (
    "transpose_forward",
    "transpose_backward",
    "foreground_intensity_properties_per_channel",
)
_NEEDED_OF_ONE = (
    "patch_size",
    "spacing",
    "architecture",
    "normalization_schemes",
    "resampling_fn_data",
    "resampling_fn_probabilities",
)


@dataclass(frozen=True, eq=False)
class Plans:
    """The plans of one configuration.

    Attributes:
        plans: content of plans.json.
        dataset_json: content of nnU-Net's dataset.json (labels, channel_names).
        configuration_name: `"3d_fullres"`.
    """

    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    configuration_name: str = "3d_fullres"

    @cached_property
    def manager(self) -> Any:
        """nnU-Net's PlansManager."""
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        return PlansManager(self.plans)

    @cached_property
    def configuration(self) -> Any:
        """nnU-Net's ConfigurationManager.

        Raises:
            DatasetError: If the plans have no such configuration or it belongs to a cascade.
        """
        known = self.plans.get("configurations", {})
        if self.configuration_name not in known:
            raise DatasetError(
                f"plans have no configuration {self.configuration_name}; they have {list(known)}"
            )
        missing = [name for name in _NEEDED if name not in self.plans]
        if missing:
            raise DatasetError(f"plans.json lacks {', '.join(missing)}; it is no plans of nnU-Net")
        try:
            configuration = self.manager.get_configuration(self.configuration_name)
            missing = [n for n in _NEEDED_OF_ONE if n not in configuration.configuration]
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DatasetError(
                f"plans.json: configuration {self.configuration_name} cannot be used: {error!r}"
            ) from None
        if missing:
            raise DatasetError(
                f"plans.json: configuration {self.configuration_name} lacks {', '.join(missing)}"
            )
        if configuration.previous_stage_name is not None or len(configuration.patch_size) != 3:
            raise DatasetError(
                f"configuration {self.configuration_name} is 2D or the second stage of a cascade; "
                "only single 3D networks are supported; give a 3d_fullres or 3d_lowres model"
            )
        return configuration

    def require_single(self) -> None:
        """Refuse what is not one 3D network.

        Raises:
            DatasetError: If the configuration is missing, 2D, or a cascade's second stage.
        """
        _ = self.configuration

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Voxels of a network input, in the network's axes."""
        z, y, x = self.configuration.patch_size
        return int(z), int(y), int(x)

    @property
    def transpose(self) -> tuple[int, ...]:
        """Axes of the network's arrays as axes of nnU-Net's (k, j, i)."""
        return tuple(self.plans["transpose_forward"])

    @cached_property
    def label_manager(self) -> Any:
        """nnU-Net's LabelManager.

        Raises:
            DatasetError: If the labels in dataset.json cannot be used.
        """
        try:
            return self.manager.get_label_manager(self.dataset_json)
        except (AssertionError, RuntimeError, KeyError, TypeError) as error:
            raise DatasetError(f"dataset.json: labels cannot be used: {error}") from None

    @cached_property
    def n_channels(self) -> int:
        """Output channels; of a softmax, background included."""
        return int(self.label_manager.num_segmentation_heads)

    @property
    def n_inputs(self) -> int:
        """Input channels.

        Raises:
            DatasetError: If dataset.json does not say.
        """
        names = self.dataset_json.get("channel_names") or self.dataset_json.get("modality")
        if not names:
            raise DatasetError("dataset.json lacks channel_names: how many images the model takes")
        return len(names)

    def shared_by(self, processes: int) -> Plans:
        """The plans of one of several processes that share each batch evenly."""
        if processes == 1:
            return self
        name = self.configuration_name
        own = self.plans["configurations"][name]
        own = own | {"batch_size": own["batch_size"] // processes}
        plans = self.plans | {"configurations": {**self.plans["configurations"], name: own}}
        return Plans(plans, self.dataset_json, name)

    def build_network(self, *, deep_supervision: bool = False) -> torch.nn.Module:
        """The network, with random weights.

        Raises:
            DatasetError: If the plans name a class outside the known packages, or one that
                cannot be built.
        """
        architecture = self.configuration.configuration["architecture"]
        try:
            path, settings = architecture["network_class_name"], dict(architecture["arch_kwargs"])
            imported = [k for k in architecture["_kw_requires_import"] if settings[k] is not None]
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"plans.json: architecture cannot be used: {error!r}") from None
        for key in imported:
            settings[key] = _located(settings[key], (_LAYER_PACKAGE,))
        network_class = _located(path, NETWORK_PACKAGES)
        settings |= {"deep_supervision": deep_supervision}
        try:
            network: torch.nn.Module = network_class(
                input_channels=self.n_inputs, num_classes=self.n_channels, **settings
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise DatasetError(f"plans: {path} cannot be built: {error}") from error
        initialize = getattr(network_class, "initialize", None)
        if initialize is not None:
            network.apply(initialize)
        return network

    def preprocess(
        self, image: NDArray[np.float32], spacing: list[float]
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Transpose, crop, normalise and resample an image as the plans say.

        Args:
            image: (1, k, j, i) HU, in the model's orientation.
            spacing: mm along (k, j, i).

        Returns:
            (1, z, y, x) float32 network input, and nnU-Net's properties: what is needed to
            bring its answer back to the image's grid.
        """
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

        properties: dict[str, Any] = {"spacing": spacing}
        data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            image, None, properties, self.manager, self.configuration, self.dataset_json
        )
        return data, properties


def _located(path: str, packages: tuple[str, ...]) -> Any:
    """A class of layers or networks by its dotted path.

    A path leads through whatever a module imports, to `os.system` too, and what it leads to is
    called: so it must be a class of `torch.nn.Module`.
    """
    import torch

    found = pydoc.locate(path) if str(path).startswith(packages) else None
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
        raise DatasetError(f"plans name {path!r}; expected a class in {', '.join(packages)}*")
    return found
