"""Labels against nnU-Net's own predictor, on trained weights.

nnU-Net sums windows in float16, we in float32; the comparison gives it float32 sums too, so that
what differs is the engine and not the type. Weights were trained on 6 mm voxels; other spacings
make other grids of the same networks.
"""

from __future__ import annotations

import copy
import io
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from scipy.ndimage import binary_erosion

from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LabelMap
from pantskit.core.volume import Volume, read_volume
from pantskit.networks.axes import header_spacing
from pantskit.networks.folder import CHECKPOINT, FOLD, MODEL_FILE, Model
from pantskit.networks.plans import Plans
from pantskit.networks.preprocessing import NetworkImage
from pantskit.predict.case import predict_volume, prepare

CPU = torch.device("cpu")


@dataclass
class Peer:
    """nnU-Net's answer: (k, j, i) labels and (c, k, j, i) logits on the CT's grid."""

    labels: np.ndarray
    logits: np.ndarray


def nnunet(model: Model, image: Volume, mirror: bool, patch: pytest.MonkeyPatch) -> Peer:
    """nnUNetPredictor's preprocessing, sliding window and export; nothing is cropped."""
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as export,
    )
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    plans = model.plans
    peer = nnUNetPredictor(use_mirroring=mirror, device=CPU, allow_tqdm=False)
    network = plans.build_network()
    peer.manual_initialization(
        network, plans.manager, plans.configuration, list(model.folds), plans.dataset_json,
        "nnUNetTrainer", model.mirror_axes or None,
    )  # fmt: skip
    turned = image if model.orientation is None else image.reoriented(model.orientation)
    array = np.ascontiguousarray(turned.array.T, np.float32)[None]
    data, properties = plans.preprocess(array, list(turned.geometry.spacing[::-1]))
    with patch.context() as patched:
        patched.setattr(torch, "half", torch.float32)
        logits = peer.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    labels = export(
        logits, plans.manager, plans.configuration, plans.label_manager, dict(properties), False, 1
    )
    spacing = [properties["spacing"][axis] for axis in plans.transpose]
    shape = properties["shape_after_cropping_and_before_resampling"]
    assert tuple(shape) == tuple(properties["shape_before_cropping"])
    full = plans.configuration.resampling_fn_probabilities(
        logits.numpy(), shape, plans.configuration.spacing, spacing
    )
    back = [0, *(axis + 1 for axis in np.argsort(plans.transpose))]
    return Peer(labels, np.asarray(full).transpose(back))


def assert_same(model: Model, ours: Volume, peer: Peer, table: np.ndarray | None = None) -> None:
    """The bounds that the engine promises."""
    turned = ours if model.orientation is None else ours.reoriented(model.orientation)
    found = turned.array.T
    expected = (model.heads.table if table is None else table)[peer.labels]
    differ = found != expected
    if model.heads.regions:
        margin = np.abs(peer.logits).min(axis=0)
    else:
        best = np.sort(peer.logits, axis=0)
        margin = best[-1] - best[-2]
    assert not differ.any() or margin[differ].max() < 0.01
    assert len(np.unique(expected)) > 1, "the model finds nothing: there is nothing to compare"
    for label in np.unique(expected)[1:]:
        a, b = expected == label, found == label
        wrong = np.count_nonzero(a != b)
        boundary = np.count_nonzero(a & ~binary_erosion(a))
        assert wrong <= max(2, 0.01 * boundary)
        if a.sum() >= 10_000:
            assert 2 * np.count_nonzero(a & b) / (a.sum() + b.sum()) >= 0.999
        else:
            assert wrong <= 2


def with_plans(model: Model, **changes: Any) -> Model:
    """The same network under other plans."""
    plans = copy.deepcopy(model.plans.plans)
    configuration = plans["configurations"]["3d_fullres"]
    for name, value in changes.items():
        (configuration if name in configuration else plans)[name] = value
    return replace(model, plans=Plans(plans, model.plans.dataset_json))


def scan(dataset: Dataset, kind: str = "whole") -> Volume:
    """A test patient; or a sliver of it, four of it in a row or a square, or thick slices."""
    image = read_volume(dataset.cases("test")[0].image_path)
    array = image.array.copy(order="F")
    array[array == 0] = 1  # nothing to crop
    if kind == "tiny":
        array = array[4:30, 6:28, 10:16]
    elif kind == "long":
        array = np.concatenate([array] * 4, axis=2)
    elif kind == "wide":
        array = np.tile(array, (2, 2, 1))
    elif kind == "thick":
        array = array[:, :, ::4]
    spacing = np.array(image.geometry.spacing) * ([1, 1, 4] if kind == "thick" else [1, 1, 1])
    spacing = spacing / [2, 2, 1] if kind == "thick" else spacing
    geometry = Geometry.from_spacing(array.shape, tuple(spacing), orientation="LPS")
    return Volume(np.asfortranarray(array), geometry)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("whole", {}),
        ("tiny", {}),
        ("long", {}),
        ("wide", {}),
        ("whole", {"spacing": [13.0, 4.0, 4.0]}),
        ("thick", {}),
        ("whole", {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}),
    ],
    ids=[
        "isotropic",
        "tiny",
        "long",
        "wide",
        "anisotropic-plans",
        "anisotropic-scan",
        "transposed",
    ],
)
def test_labels_equal_nnunets(
    trained: tuple[Dataset, Path],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    changes: dict[str, Any],
    mirror: bool,
) -> None:
    dataset, folder = trained
    model = replace(with_plans(Model.load(folder), **changes), mirror_axes=(0, 2))
    image = scan(dataset, kind)
    found = predict_volume(model, model.build(CPU), image, device=CPU, mirror=mirror).labels
    assert_same(model, found, nnunet(model, image, mirror, monkeypatch))


@pytest.mark.parametrize(
    ("spacing", "n_slices", "plans", "expected"),
    [
        # 33 slices of 5 mm are 82.5 of 2 mm, 82 rounded to even; of 5.0000002 mm, 83.
        ((2.0, 2.0, 5.0), 33, [2.0, 2.0, 2.0], 82),
        # No more than threefold is no coarse axis: 10 slices are interpolated, none is taken twice.
        ((1.0, 1.0, 3.0), 10, [2.0, 1.5, 1.5], 15),
    ],
)
@pytest.mark.parametrize("degrees", [0, 5, 13, 29])
def test_spacing_of_a_tilted_scan_is_its_header_s_as_for_nnunet(
    trained: tuple[Dataset, Path],
    tmp_path: Path,
    spacing: tuple[float, float, float],
    n_slices: int,
    plans: list[float],
    expected: int,
    degrees: int,
) -> None:
    hu = np.random.default_rng(0).integers(-100, 100, (12, 10, n_slices), np.int16)
    a = np.deg2rad(degrees)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    file = nibabel.Nifti1Image(hu, tilt @ np.diag([-spacing[0], spacing[1], spacing[2], 1.0]))
    file.header["pixdim"][1:4] = spacing  # as scanners' and ITK's converters write it
    nibabel.save(file, tmp_path / "scan.nii.gz")
    image = read_volume(tmp_path / "scan.nii.gz")
    found = header_spacing(tmp_path / "scan.nii.gz", image.geometry)
    assert found == spacing
    model = with_plans(Model.load(trained[1]), spacing=plans)
    ready = prepare(model, image, device=CPU, spacing=found)
    assert ready.source.shape[0] == expected
    assert isinstance(ready.source, NetworkImage)
    assert ready.source.separate is None
    across = prepare(model, image.reoriented("SRA"), device=CPU, spacing=(found[2], *found[:2]))
    assert across.spacing == ready.spacing == [spacing[2], spacing[1], spacing[0]]


@pytest.fixture
def foreign(trained: tuple[Dataset, Path], tmp_path: Path) -> Path:
    """The trained model as nnU-Net leaves one: two folds, no files of ours."""
    folder = tmp_path / "Dataset001" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    shutil.copytree(trained[1], folder)
    for name in (MODEL_FILE, "recipe.toml"):
        (folder / name).unlink()
    shutil.copytree(folder / FOLD, folder / "fold_1")
    path = folder / "fold_1" / CHECKPOINT
    checkpoint = torch.load(path, weights_only=True)
    noise = torch.Generator().manual_seed(0)
    for weight in checkpoint["network_weights"].values():
        weight += 0.02 * torch.randn(weight.shape, generator=noise) * weight.abs().mean()
    torch.save(checkpoint, path)
    return folder


def test_folds_of_a_model_trained_elsewhere_are_ensembled_as_nnunet_does(
    trained: tuple[Dataset, Path], foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(foreign)
    assert len(model.folds) == 2
    assert model.orientation is None
    image = scan(trained[0]).reoriented("LAI")
    found = predict_volume(model, model.build(CPU), image, device=CPU).labels
    assert_same(model, found, nnunet(model, image, False, monkeypatch))
    single = Model.load(trained[1])
    alone = predict_volume(single, single.build(CPU), image, device=CPU).labels
    assert (alone.array != found.array).any()


def as_regions(folder: Path) -> None:
    """Five channels of a softmax, read as five overlapping regions painted in turn."""
    path = folder / "dataset.json"
    values = json.loads(path.read_text())
    values["labels"] = {
        "background": 0,
        "liver": [1],
        "spleen": [2, 3, 5],
        "pancreas": [3, 4],
        "stomach": 5,
        "pancreatic_lesion": 4,
    }
    values["regions_class_order"] = [1, 2, 3, 5, 4]
    path.write_text(json.dumps(values))


def test_regions_are_painted_in_their_order(
    trained: tuple[Dataset, Path], foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_regions(foreign)
    model = Model.load(foreign)
    assert model.heads.regions
    assert model.heads.n_channels == 5
    table = np.zeros(6, np.uint8)
    table[[1, 2, 3, 5, 4]] = model.heads.table[1:]
    image = scan(trained[0])
    answer = predict_volume(
        model, model.build(CPU), image, device=CPU, probabilities=["pancreatic_lesion"]
    )
    peer = nnunet(model, image, False, monkeypatch)
    assert_same(model, answer.labels, peer, table)
    expected = torch.sigmoid(torch.from_numpy(peer.logits[4])).numpy()
    chances = answer.probabilities["pancreatic_lesion"].array.T
    np.testing.assert_allclose(chances, expected, atol=1e-4)


def test_probability_and_entropy_are_those_of_the_resampled_logits(
    trained: tuple[Dataset, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(trained[1])
    image = scan(trained[0]).reoriented("LAI")
    structures = ["pancreatic_lesion", "liver"]
    answer = predict_volume(
        model, model.build(CPU), image, device=CPU, probabilities=structures, entropy=True
    )
    peer = nnunet(model, image, False, monkeypatch)
    p = torch.softmax(torch.from_numpy(peer.logits).double(), 0)
    for structure in structures:
        (channel,) = model.heads.channels_of(structure)
        found = answer.probabilities[structure].array.T
        np.testing.assert_allclose(found, p[channel].numpy(), atol=1e-4)
    assert answer.entropy is not None
    expected = torch.special.entr(p).sum(0).numpy()
    np.testing.assert_allclose(answer.entropy.array.T, expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["wide", "long", "tiny"])
def test_batches_and_repetition_change_nothing(trained: tuple[Dataset, Path], kind: str) -> None:
    model, image = Model.load(trained[1]), scan(trained[0], kind)
    network = model.build(CPU)
    one, again, four = (
        predict_volume(model, network, image, device=CPU, batch=batch) for batch in (1, 1, 4)
    )
    np.testing.assert_array_equal(one.labels.array, again.labels.array)
    assert one.tumor_probability == again.tumor_probability
    assert np.count_nonzero(one.labels.array != four.labels.array) <= 2


@pytest.mark.parametrize("regions", [False, True])
def test_export_of_the_device_equals_the_compiled_one(
    trained: tuple[Dataset, Path], foreign: Path, monkeypatch: pytest.MonkeyPatch, regions: bool
) -> None:
    if regions:
        as_regions(foreign)
    model, image = Model.load(foreign), scan(trained[0], "long")
    network = model.build(CPU)
    asked: dict[str, Any] = {"probabilities": ["pancreatic_lesion"], "entropy": True}
    ours = predict_volume(model, network, image, device=CPU, **asked)
    monkeypatch.setattr("pantskit.predict.case.on_host", lambda ring: False)
    theirs = predict_volume(model, network, image, device=CPU, **asked)
    assert np.count_nonzero(ours.labels.array != theirs.labels.array) <= 2
    assert theirs.tumor_probability == pytest.approx(ours.tumor_probability, abs=1e-5)
    for name, volume in ours.probabilities.items():
        np.testing.assert_allclose(theirs.probabilities[name].array, volume.array, atol=1e-5)
    assert ours.entropy is not None
    assert theirs.entropy is not None
    np.testing.assert_allclose(theirs.entropy.array, ours.entropy.array, atol=1e-4)


def rename(folder: Path, names: Sequence[str]) -> None:
    path = folder / "dataset.json"
    values = json.loads(path.read_text())
    values["labels"] = {"background": 0} | {name: n for n, name in enumerate(names, 1)}
    path.write_text(json.dumps(values))


def test_names_that_mean_nothing_here_need_a_label_map(
    trained: tuple[Dataset, Path], foreign: Path
) -> None:
    rename(foreign, ["organ_a", "organ_b", "organ_c", "organ_d"])
    with pytest.raises(DatasetError, match=r"none of its labels .*organ_a.*--label-map"):
        Model.load(foreign)
    model = Model.load(foreign, label_map=LabelMap.parse("1=liver,3=spleen"))
    assert model.heads.structures == ("liver", "spleen")
    assert model.heads.unmapped == ("organ_b", "organ_d")
    found = predict_volume(model, model.build(CPU), scan(trained[0]), device=CPU)
    ours = Model.load(trained[1])
    assert set(np.unique(found.labels.array)) <= {0, *model.heads.table}
    assert found.tumor_probability is None
    assert model.checkpoint_hash != ours.checkpoint_hash


def test_second_stage_of_a_cascade_is_refused(foreign: Path) -> None:
    path = foreign / "plans.json"
    plans = json.loads(path.read_text())
    plans["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"
    path.write_text(json.dumps(plans))
    with pytest.raises(DatasetError, match="second stage of a cascade"):
        Model.load(foreign)


def test_checkpoint_that_nnunets_own_trainer_wrote_is_read(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    """Its init_args hold a torch.device, its log numpy numbers."""
    from pantskit.networks.folder import load_checkpoint

    checkpoint = torch.load(trained[1] / FOLD / CHECKPOINT, weights_only=True)
    checkpoint["init_args"] |= {"device": torch.device("cpu"), "unpack_dataset": True}
    checkpoint["_best_ema"] = np.float64(0.5)
    checkpoint["logging"] = {"ema_fg_dice": [np.float32(0.1)], "epoch_end_timestamps": [1.0]}
    torch.save(checkpoint, tmp_path / "c.pth")
    assert load_checkpoint(tmp_path / "c.pth")["init_args"]["device"] == CPU


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [[4.0, 4.0, 4.0], [8.0, 2.5, 2.5]])
def test_labels_equal_nnunets_on_a_real_scan(
    trained: tuple[Dataset, Path],
    shared_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    spacing: list[float],
) -> None:
    archive = shared_data / "ircadb01_case17" / "ircadb17_patient_and_masks_dicom.zip"
    with zipfile.ZipFile(archive) as files:
        names = [n for n in files.namelist() if n.startswith("PATIENT_DICOM/image")]
        slices = [pydicom.dcmread(io.BytesIO(files.read(name))) for name in names]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    array = np.stack([s.pixel_array.T for s in slices], axis=2).astype(np.int16)
    array = array[100:400, 130:380, 20:90]  # the abdomen: nnU-Net's way is slow on the whole
    array[array == 0] = 1
    rows, columns = (float(n) for n in slices[0].PixelSpacing)
    between = float(slices[1].ImagePositionPatient[2] - slices[0].ImagePositionPatient[2])
    geometry = Geometry.from_spacing(array.shape, (columns, rows, between), orientation="LPS")
    image = Volume(np.asfortranarray(array), geometry)
    model = with_plans(Model.load(trained[1]), spacing=spacing, patch_size=[32, 48, 48])
    found = predict_volume(model, model.build(CPU), image, device=CPU, mirror=False).labels
    assert_same(model, found, nnunet(model, image, False, monkeypatch))
