"""What must hold of a trained model before anything is predicted with it.

A model's files come from anywhere. What makes every case fail is said once, before anything is
written, and what would be left out silently is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from pantskit.core.errors import ConfigError, DatasetError, PantskitError
from pantskit.core.labels import LabelMap
from pantskit.networks.folder import Model
from pantskit.networks.plans import Plans
from pantskit.networks.preprocessing import streams
from pantskit.predict.case import require_way_back
from pantskit.predict.export import MOST_CHANNELS
from pantskit.predict.windows import out_of_memory

if TYPE_CHECKING:
    import torch

_PREPROCESSOR = "DefaultPreprocessor"
_NORMALISATIONS = (
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "ZScoreNormalization",
)
# What a file that was written by hand or cut makes our and nnU-Net's readers raise.
_ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError, AssertionError, RuntimeError)


def open_model(folder: Path, label_map: str | None) -> Model:
    """`Model.load`; whatever is wrong with the folder's files is one line.

    Args:
        folder: of the model.
        label_map: as `LabelMap.parse` reads it; None goes by the names in dataset.json.

    Raises:
        DatasetError: If the model cannot be used.
        LabelError: If the label map cannot be read.
    """
    given = None if label_map is None else LabelMap.parse(label_map)
    try:
        return Model.load(folder, label_map=given)
    except _ODD as error:
        raise DatasetError(
            f"{folder}: plans.json, dataset.json or a checkpoint is not nnU-Net's: {_brief(error)}"
        ) from error


def require_usable(model: Model, *, label_map: str | None, structures: Iterable[str]) -> None:
    """Refuse a model with which no case could be predicted, or not as it is asked.

    Args:
        model: the model.
        label_map: as it was given.
        structures: whose probability is asked.

    Raises:
        ConfigError: If the label map says nothing, or speaks of ids that there are not.
        DatasetError: If the plans ask for what is not known here, a file is damaged, the weights
            do not fit, or the model does not know a structure.
    """
    _require_label_map(model, label_map)
    try:
        _require_plans(model.plans)
    except _ODD as error:
        raise DatasetError(f"{model.folder}: plans.json cannot be used: {_brief(error)}") from error
    if sorted(set(model.mirror_axes) & {0, 1, 2}) != sorted(model.mirror_axes):
        raise DatasetError(
            f"{model.folder}: the checkpoint allows mirroring along {model.mirror_axes}; axes are "
            "0, 1 and 2, each once"
        )
    if model.heads.n_channels > MOST_CHANNELS:
        raise DatasetError(
            f"{model.folder}: {model.heads.n_channels} channels; at most {MOST_CHANNELS} are known "
            "here"
        )
    for structure in structures:
        model.require_known(structure)
    _require_fit(model)
    _require_own_weights(model)


def reading(model: Model) -> str:
    """A hash of what decides, beside the weights, what the model's answers are."""
    info = None if model.info is None else asdict(model.info) | {"training": None, "versions": None}
    parts = (model.plans.plans, model.plans.dataset_json, info, model.mirror_axes)
    return blake3(repr(_ordered(parts)).encode()).hexdigest(length=16)


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        # Not the order of labels: regions are channels in the order in which they are named.
        return [(k, _ordered(v)) for k, v in value.items()]
    return [_ordered(v) for v in value] if isinstance(value, (list, tuple)) else value


def _require_label_map(model: Model, text: str | None) -> None:
    if text is None:
        return
    if model.info is not None:
        raise ConfigError(
            f"--label-map: {model.folder} says itself what its labels mean (model.json); the "
            "option is for models that were trained elsewhere"
        )
    given = LabelMap.parse(text)
    known = [int(n) for n in model.plans.label_manager.all_labels]
    unknown = sorted(set(given.ids) - set(known))
    if given.name == "inline" and unknown:
        raise ConfigError(
            f"--label-map names the ids {unknown}, of which {model.folder} has none; its own are "
            f"{known[1]} to {known[-1]} (dataset.json)"
        )


def _require_plans(plans: Plans) -> None:
    """Touch all that a case will need."""
    configuration = plans.configuration
    name = configuration.configuration.get("preprocessor_name", _PREPROCESSOR)
    if name != _PREPROCESSOR:
        raise DatasetError(f"the plans name the preprocessor {name!r}; {_PREPROCESSOR} is known")
    if sorted(plans.transpose) != [0, 1, 2]:
        raise DatasetError(f"plans: transpose_forward {plans.transpose} does not order three axes")
    if min(plans.patch_size) < 1:
        raise DatasetError(f"plans: patch_size {plans.patch_size} is no window")
    spacing = [float(mm) for mm in configuration.spacing]
    if len(spacing) != 3 or not all(0 < mm < float("inf") for mm in spacing):
        raise DatasetError(f"plans: spacing {spacing} is not three lengths in mm")
    schemes = configuration.normalization_schemes
    if schemes != [s for s in schemes if s in _NORMALISATIONS] or len(schemes) != plans.n_inputs:
        raise DatasetError(
            f"plans: normalization_schemes {schemes}; expected one of {', '.join(_NORMALISATIONS)}"
        )
    if not streams(plans):
        _ = configuration.resampling_fn_data
    else:
        facts = plans.manager.foreground_intensity_properties_per_channel["0"]
        for key in ("mean", "std", "percentile_00_5", "percentile_99_5"):
            float(facts[key])
    require_way_back(plans)


def _require_own_weights(model: Model) -> None:
    """Refuse weights that a model.json was not written for, or that are no numbers."""
    written = None if model.info is None else model.info.training.get("weights")
    if written not in (None, model.checkpoint_hash):
        raise DatasetError(
            f"{model.folder}: the checkpoint is not the file that model.json was written for; copy "
            "both again"
        )
    for n, weights in enumerate(model.folds):
        for name, values in weights.items():
            if values.is_floating_point() and not values.isfinite().all():
                raise DatasetError(
                    f"{model.folder}: network {n} holds values that are not finite ({name}); copy "
                    "its checkpoint again"
                )


def _require_fit(model: Model) -> None:
    """Build the networks where nothing is computed, and have one take a window."""
    import torch

    meta = torch.device("meta")
    try:
        with meta, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that weights were not copied there
            network = model.build(meta)
            answer = _shape_of_answer(network, model.plans)
    except PantskitError:
        raise
    except (*_ODD, NotImplementedError) as error:
        if out_of_memory(error):
            return  # the cases will say it, and may take less at once
        if "meta" in str(error):  # a network that must compute to be built
            model.build(torch.device("cpu"))
            return
        raise DatasetError(
            f"{model.folder}: the network of plans.json cannot be built or run: {_brief(error)}"
        ) from error
    expected = (1, model.heads.n_channels, *model.plans.patch_size)
    if answer != expected:
        raise DatasetError(
            f"{model.folder}: the network answers {answer} to a window; expected {expected}"
        )


def _shape_of_answer(network: torch.nn.Module, plans: Plans) -> tuple[int, ...]:
    import torch

    with torch.inference_mode():
        window = torch.zeros((1, plans.n_inputs, *plans.patch_size))
        return tuple(int(n) for n in network(window).shape)


def _brief(error: BaseException) -> str:
    reason = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {reason}"
