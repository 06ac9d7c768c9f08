"""nnU-Net's planning on our cases: fingerprint in, plans out."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.core.files import write_json
from pantskit.core.records import CaseRecord
from pantskit.networks.plans import Plans
from pantskit.train.cases import DATASET_NAME, PREPARED
from pantskit.train.labels import Channels
from pantskit.train.partial import region_labels
from pantskit.train.recipe import Recipe

CONFIGURATION = "3d_fullres"
# What nnU-Net itself must read images with to see them as the training did (in the standard
# orientation). pantskit reads through core.volume, with the same axes.
_READER = "NibabelIO"


@contextlib.contextmanager
def nnunet_folders(work: Path, *, augmentation_processes: int = 1) -> Iterator[Path]:
    """nnU-Net's folders for the length of a block, as it wants them: in the environment.

    Returns:
        The folder of its preprocessed data, made.
    """
    values = {
        "nnUNet_raw": str(work / "raw"),
        "nnUNet_preprocessed": str(work / "preprocessed"),
        "nnUNet_results": str(work / "results"),
        "nnUNet_n_proc_DA": str(augmentation_processes),
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        preprocessed = work / "preprocessed" / DATASET_NAME
        preprocessed.mkdir(parents=True, exist_ok=True)
        (work / "raw" / DATASET_NAME).mkdir(parents=True, exist_ok=True)
        yield preprocessed
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def dataset_json(channels: Channels, n_cases: int) -> dict[str, Any]:
    """nnU-Net's dataset.json: channel names, and labels or regions of labels."""
    ids = {s: i for i, s in enumerate(channels.structures, 1)}
    labels: dict[str, int | list[int]] = {"background": 0, **ids}
    order = {}
    if channels.regions:
        labels |= {s: list(region_labels(s, channels.structures)) for s in ids}
        order = {"regions_class_order": list(ids.values())}
    return {
        "channel_names": {"0": "CT"},
        "labels": labels,
        **order,
        "numTraining": n_cases,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": _READER,
    }


def fingerprint(records: Sequence[CaseRecord], intensities: Sequence[Path]) -> dict[str, Any]:
    """nnU-Net's dataset fingerprint from the scanned cases.

    Args:
        records: of the scan, one a case.
        intensities: files of HU samples of structures, one a case.
    """
    values = np.concatenate([np.load(path) for path in intensities])
    low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
    statistics = {
        "mean": values.mean(dtype=np.float64),
        "median": median,
        "std": values.std(dtype=np.float64),
        "min": values.min(),
        "max": values.max(),
        "percentile_99_5": high,
        "percentile_00_5": low,
    }
    return {
        "spacings": [r.data["spacing"] for r in records],
        "shapes_after_crop": [r.data["shape_after_crop"] for r in records],
        "foreground_intensity_properties_per_channel": {
            "0": {name: float(value) for name, value in statistics.items()}
        },
        "median_relative_size_after_cropping": float(
            np.median([r.data["relative_size_after_crop"] for r in records])
        ),
    }


def make_plans(
    work: Path, recipe: Recipe, description: dict[str, Any], print_: dict[str, Any]
) -> Plans:
    """Run nnU-Net's experiment planner.

    Args:
        work: folder for its files.
        recipe: what is not left to the planner.
        description: nnU-Net's dataset.json.
        print_: the dataset's fingerprint.

    Returns:
        The plans, also at `preprocessed/<dataset>/nnUNetPlans.json` in the work folder.
    """
    base = _planner(recipe.network.planner)

    class RecipePlanner(base):  # type: ignore[misc, valid-type]  # nnU-Net has no types
        """nnU-Net's planner; sizes that the recipe sets are the recipe's."""

        def determine_reader_writer(self) -> Any:
            from nnunetv2.imageio.nibabel_reader_writer import NibabelIO

            return NibabelIO

        def static_estimate_VRAM_usage(self, *args: Any) -> float:  # noqa: N802  # nnU-Net's name
            # A patch that is given needs no search for the largest that fits.
            return 1.0 if recipe.patch_size else super().static_estimate_VRAM_usage(*args)

        def get_plans_for_configuration(self, spacing: Any, *args: Any) -> Any:
            plan = super().get_plans_for_configuration(spacing, *args)
            if len(spacing) == 3:
                _apply_recipe(plan, recipe, self)
            return plan

    with nnunet_folders(work) as preprocessed:
        # An earlier try's plans would be merged with these.
        (preprocessed / "nnUNetPlans.json").unlink(missing_ok=True)
        # The planner asks which files there are, for one example that it does not need here.
        listing = {"none": {"images": ["none.nii.gz"], "label": "none.nii.gz"}}
        write_json(work / "raw" / DATASET_NAME / "dataset.json", description | {"dataset": listing})
        write_json(preprocessed / "dataset_fingerprint.json", print_)
        with warnings.catch_warnings():  # of a memory that is not its preset's: it was asked for
            warnings.filterwarnings("ignore", message="WARNING: You are running nnUNetPlanner")
            planner = RecipePlanner(
                DATASET_NAME,
                gpu_memory_target_in_gb=recipe.gpu_memory_gb or recipe.network.gpu_memory_gb,
                overwrite_target_spacing=list(recipe.spacing[::-1]) or None,
            )
        planner.UNet_base_num_features = recipe.features
        planner.UNet_max_features_3d = recipe.max_features
        if recipe.network.planner == "plain":  # a residual encoder has blocks of its own
            stages = len(planner.UNet_blocks_per_stage_encoder)
            planner.UNet_blocks_per_stage_encoder = (recipe.convolutions,) * stages
            planner.UNet_blocks_per_stage_decoder = (recipe.decoder_convolutions,) * (stages - 1)
        plans = planner.plan_experiment()
        plans["experiment_planner_used"] = base.__name__
        if recipe.batch_dice is not None:
            plans["configurations"][CONFIGURATION]["batch_dice"] = recipe.batch_dice
        if recipe.patch_size:  # planned around the recipe's patch, the others mean nothing
            plans["configurations"] = {CONFIGURATION: plans["configurations"][CONFIGURATION]}
        # Prepared data lie in one folder, whatever their plans.
        plans["configurations"][CONFIGURATION]["data_identifier"] = PREPARED
        write_json(preprocessed / "nnUNetPlans.json", plans)
        write_json(preprocessed / "dataset.json", description)
    return Plans(plans, description, CONFIGURATION)


def _planner(name: str) -> Any:
    """One of nnU-Net's planners."""
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
        residual_encoder_unet_planners as residual,
    )

    planners = {
        "plain": ExperimentPlanner,
        "resenc-m": residual.nnUNetPlannerResEncM,
        "resenc-l": residual.nnUNetPlannerResEncL,
        "resenc-xl": residual.nnUNetPlannerResEncXL,
    }
    return planners[name]


def _apply_recipe(plan: dict[str, Any], recipe: Recipe, planner: Any) -> None:
    """Put the recipe's patch, batch and network into a 3D plan."""
    if recipe.batch_size:
        plan["batch_size"] = recipe.batch_size
    forward, _ = planner.determine_transpose()
    wanted = [recipe.patch_size[::-1][axis] for axis in forward] if recipe.patch_size else []
    if recipe.network.network_class:
        patch = list(recipe.network.fitting_patch(wanted or plan["patch_size"]))
        plan["patch_size"] = patch
        plan["architecture"] = {
            "network_class_name": recipe.network.network_class,
            "arch_kwargs": recipe.network.settings(patch, recipe.features),
            "_kw_requires_import": [],
        }
    elif wanted:
        _fit_unet(plan, recipe, wanted, planner)


def _fit_unet(plan: dict[str, Any], recipe: Recipe, wanted: list[int], planner: Any) -> None:
    """Give nnU-Net's network the stages that fit a patch."""
    from nnunetv2.experiment_planning.experiment_planners.network_topology import (
        get_pool_and_conv_props,
    )

    _, strides, kernels, patch, _ = get_pool_and_conv_props(plan["spacing"], wanted, 4, 999999)
    n_stages = len(strides)
    plan["patch_size"] = patch
    settings = plan["architecture"]["arch_kwargs"]
    encoder = next(k for k in ("n_blocks_per_stage", "n_conv_per_stage") if k in settings)
    settings |= {
        "n_stages": n_stages,
        "features_per_stage": [
            min(recipe.features * 2**i, recipe.max_features) for i in range(n_stages)
        ],
        "kernel_sizes": kernels,
        "strides": strides,
        encoder: list(planner.UNet_blocks_per_stage_encoder[:n_stages]),
        "n_conv_per_stage_decoder": list(planner.UNet_blocks_per_stage_decoder[: n_stages - 1]),
    }
