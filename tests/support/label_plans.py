"""nnU-Net's plans as far as preparing a case reads them."""

from __future__ import annotations

from typing import Any

from pantskit.networks.plans import Plans

MANY = {"background": 0, **{f"s{n}": n for n in range(1, 29)}}
REGIONS = {"background": 0, "organ": [1, 2, 3], "part": [2], "lesion": [3]}


def plans_of(
    spacing: list[float],
    labels: dict[str, Any] | None = None,
    transpose: tuple[int, ...] = (0, 1, 2),
    **changes: Any,
) -> Plans:
    """Plans for one CT channel, without a network.

    Args:
        spacing: mm of the network's grid.
        labels: of dataset.json; None for 28.
        transpose: the network's axes.
        changes: in the configuration.
    """
    labels = labels or MANY
    description = {"channel_names": {"0": "CT"}, "labels": labels}
    if any(isinstance(ids, list) for ids in labels.values()):
        description["regions_class_order"] = list(range(1, len(labels)))
    settings = {"order_z": 0, "force_separate_z": None}
    values = {
        "spacing": spacing,
        "patch_size": [16, 16, 16],
        "preprocessor_name": "DefaultPreprocessor",
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "architecture": {},
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **settings},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **settings},
    }
    statistics = {"mean": 60.0, "std": 80.0, "percentile_00_5": -900.0, "percentile_99_5": 300.0}
    plans = {
        "image_reader_writer": "NibabelIO",
        "label_manager": "LabelManager",
        "transpose_forward": list(transpose),
        "transpose_backward": [transpose.index(axis) for axis in range(3)],
        "foreground_intensity_properties_per_channel": {"0": statistics},
        "configurations": {"3d_fullres": values | changes},
    }
    return Plans(plans, description)
