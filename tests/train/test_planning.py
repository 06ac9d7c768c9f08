import json
import os
from pathlib import Path

import numpy as np
import pytest

from pantskit.core.records import CaseRecord
from pantskit.networks.plans import Plans
from pantskit.train.labels import Channels
from pantskit.train.planning import dataset_json, fingerprint, make_plans, nnunet_folders
from pantskit.train.recipe import Recipe

CHANNELS = Channels(("liver", "spleen"), False, {})


def scanned(tmp_path: Path) -> dict:
    """The fingerprint of three cases at (5, 0.8, 0.8) mm."""
    records, files = [], []
    for n in range(3):
        data = {
            "spacing": [5.0, 0.8, 0.8],
            "shape_after_crop": [40 + n, 96, 96],
            "relative_size_after_crop": 1.0,
        }
        records.append(CaseRecord(f"c{n}", "scan", "done", data=data))
        files.append(tmp_path / f"{n}.npy")
        np.save(files[-1], np.arange(n, 101, dtype=np.float32))
    return fingerprint(records, files)


def test_fingerprint_is_that_of_all_samples_together(tmp_path: Path) -> None:
    values = scanned(tmp_path)
    samples = np.concatenate([np.arange(n, 101) for n in range(3)])
    statistics = values["foreground_intensity_properties_per_channel"]["0"]
    assert statistics["mean"] == pytest.approx(samples.mean())
    assert statistics["std"] == pytest.approx(samples.std())
    assert (statistics["min"], statistics["max"]) == (0, 100)
    assert statistics["median"] == np.median(samples)
    assert values["shapes_after_crop"] == [[40, 96, 96], [41, 96, 96], [42, 96, 96]]


def test_default_plans_are_those_of_nnunets_own_planner(tmp_path: Path) -> None:
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )

    recipe = Recipe(gpu_memory_gb=1.0)  # small patches are planned fast
    description, print_ = dataset_json(CHANNELS, 3), scanned(tmp_path)
    ours = make_plans(tmp_path / "work", recipe, description, print_).plans
    with nnunet_folders(tmp_path / "work") as folder:
        (folder / "nnUNetPlans.json").unlink()
        planner = ExperimentPlanner("Dataset001_pantskit", gpu_memory_target_in_gb=1.0)
        planner.determine_reader_writer = lambda: type("NibabelIO", (), {})
        theirs = planner.plan_experiment()
    ours_3d, theirs_3d = (p["configurations"]["3d_fullres"] for p in (ours, theirs))
    ours_3d["data_identifier"] = theirs_3d["data_identifier"]
    assert theirs_3d["batch_size"] >= 2  # the paper's 2 is the least that the planner takes
    theirs_3d["batch_size"] = 2
    assert json.dumps(ours_3d, default=list) == json.dumps(theirs_3d, default=list)
    for key in ("transpose_forward", "foreground_intensity_properties_per_channel"):
        assert ours[key] == theirs[key]


def test_patch_spacing_and_width_of_a_recipe_are_kept(tmp_path: Path) -> None:
    recipe = Recipe(patch_size=(64, 48, 32), spacing=(2.0, 2.5, 5.0), features=8, convolutions=1)
    plans = make_plans(tmp_path, recipe, dataset_json(CHANNELS, 3), scanned(tmp_path))
    # The network's axes are (k, j, i) here: the coarsest first, which is k already.
    assert plans.patch_size == (32, 48, 64)
    assert list(plans.configuration.spacing) == [5.0, 2.5, 2.0]
    settings = plans.configuration.network_arch_init_kwargs
    assert settings["features_per_stage"][:3] == [8, 16, 32]
    assert set(settings["n_conv_per_stage"]) == {1}
    assert plans.n_channels == 3


def test_environment_is_as_before_after_nnunets_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = "nnUNet_raw"
    monkeypatch.setenv(raw, "mine")
    monkeypatch.delenv("nnUNet_results", raising=False)
    with nnunet_folders(tmp_path):
        assert os.environ[raw] == str(tmp_path / "raw")
    assert os.environ[raw] == "mine"
    assert "nnUNet_results" not in os.environ


def test_regions_overlap_for_nnunet_as_they_do_in_the_body() -> None:
    structures = ("liver", "pancreas", "pancreas_head", "pancreatic_lesion")
    description = dataset_json(Channels(structures, True, {}), 3)
    labels = Plans({"image_reader_writer": "NibabelIO"}, description).label_manager
    assert labels.has_regions
    assert labels.foreground_regions == [(1,), (2, 3, 4), (3,), (4,)]
    # Painted one over the other: the last of those that are true.
    answer = np.array([[0, 1, 0], [0, 1, 1], [0, 1, 0], [0, 0, 0]], np.float32)
    assert labels.convert_probabilities_to_segmentation(answer).tolist() == [0, 3, 2]


def test_residual_encoder_is_planned_as_by_nnunets_own_planner(tmp_path: Path) -> None:
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
        residual_encoder_unet_planners as residual,
    )

    description, print_ = dataset_json(CHANNELS, 3), scanned(tmp_path)
    ours = make_plans(tmp_path / "work", Recipe(architecture="resenc-m"), description, print_).plans
    with nnunet_folders(tmp_path / "work") as folder:
        (folder / "nnUNetPlans.json").unlink()
        planner = residual.nnUNetPlannerResEncM("Dataset001_pantskit")
        planner.determine_reader_writer = lambda: type("NibabelIO", (), {})
        theirs = planner.plan_experiment()
    ours_3d, theirs_3d = (p["configurations"]["3d_fullres"] for p in (ours, theirs))
    assert "Residual" in ours_3d["architecture"]["network_class_name"]
    for key in ("architecture", "patch_size", "spacing"):
        assert json.dumps(ours_3d[key], default=list) == json.dumps(theirs_3d[key], default=list)


def test_memory_that_is_asked_for_is_no_reason_for_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    recipe = Recipe(architecture="resenc-m", patch_size=(32, 32, 32), gpu_memory_gb=12.0)
    make_plans(tmp_path, recipe, dataset_json(CHANNELS, 3), scanned(tmp_path))
    assert [str(w.message) for w in recwarn if "gpu_memory" in str(w.message)] == []


def test_residual_encoder_keeps_its_blocks_on_a_patch_of_the_recipe(tmp_path: Path) -> None:
    recipe = Recipe(architecture="resenc-l", patch_size=(64, 64, 32), spacing=(2.0, 2.0, 5.0))
    plans = make_plans(tmp_path, recipe, dataset_json(CHANNELS, 3), scanned(tmp_path))
    settings = plans.configuration.network_arch_init_kwargs
    n = settings["n_stages"]
    assert settings["n_blocks_per_stage"] == [1, 3, 4, 6, 6, 6, 6][:n]
    assert settings["n_conv_per_stage_decoder"] == [1] * (n - 1)
    assert plans.patch_size == (32, 64, 64)


def test_planned_patch_is_made_to_fit_the_network(tmp_path: Path) -> None:
    recipe = Recipe(architecture="swin-unetr", gpu_memory_gb=1.0, features=8)
    plans = make_plans(tmp_path, recipe, dataset_json(CHANNELS, 3), scanned(tmp_path))
    assert all(n % 32 == 0 for n in plans.patch_size)
    assert plans.configuration.network_arch_init_kwargs == {"feature_size": 12}
