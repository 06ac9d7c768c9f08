"""What goes wrong at prediction ends in a record that says so, or in the same answer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError, DatasetError, LabelError, PantskitError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS
from pantskit.core.labelsets import COMBINED
from pantskit.core.volume import Volume, read_label_map, read_volume, write_volume
from pantskit.networks.folder import CHECKPOINT, FOLD, MODEL_FILE, Model
from pantskit.predict.case import Shortcuts, predict_volume
from pantskit.predict.inputs import find_inputs
from pantskit.predict.run import PredictSettings, predict_cases

CPU = torch.device("cpu")
ON_CPU = PredictSettings(device="cpu")


class Hostile:
    """Unpickled without care, this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def ct(trained: tuple[Dataset, Path]) -> Volume:
    """A test patient."""
    return read_volume(trained[0].cases("test")[0].image_path)


def message(trained: tuple[Dataset, Path], scan: Path, out: Path) -> str:
    """What the record of a scan that must fail says."""
    summary = predict_cases(trained[1], find_inputs(scan), out, settings=ON_CPU)
    assert summary.counts == {"failed": 1}
    return summary.records[0].message


def test_spacing_in_metres_is_refused(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    affine = np.diag([0.004, 0.004, 0.005, 1])
    image = nib.Nifti1Image(ct.array, affine)
    image.header.set_xyzt_units("meter")
    image.to_filename(tmp_path / "metres.nii.gz")
    assert "spacing" in message(trained, tmp_path / "metres.nii.gz", tmp_path / "out")


def test_scan_of_air_alone_is_refused(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    write_volume(tmp_path / "air.nii.gz", ct.with_array(np.full_like(ct.array, -1000)))
    said = message(trained, tmp_path / "air.nii.gz", tmp_path / "out")
    assert "it shows nothing but air" in said


def test_one_slice_as_thick_as_a_voxel_is_predicted(
    trained: tuple[Dataset, Path], ct: Volume
) -> None:
    geometry = Geometry.from_spacing((*ct.geometry.shape[:2], 1), (4.0, 4.0, 5.0))
    model = Model.load(trained[1])
    answer = predict_volume(
        model, model.build(CPU), Volume(ct.array[:, :, 12:13], geometry), device=CPU
    )
    assert answer.labels.array.shape == geometry.shape
    assert answer.windows_shape[0] == 1


def test_hostile_pickle_in_a_model_trained_elsewhere_is_not_run(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained[1], tmp_path / "model"))
    (folder / MODEL_FILE).unlink()
    (folder / "recipe.toml").unlink()
    torch.save({"network_weights": Hostile(tmp_path / "owned")}, folder / FOLD / CHECKPOINT)
    write_volume(tmp_path / "scan.nii.gz", ct)
    with pytest.raises(DatasetError, match="refused"):
        predict_cases(folder, find_inputs(tmp_path / "scan.nii.gz"), tmp_path / "out")
    assert not (tmp_path / "owned").exists()


def test_settings_that_cannot_be_are_refused(trained: tuple[Dataset, Path], tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="elbow"):
        PredictSettings(probabilities=("elbow",))
    with pytest.raises(ConfigError, match="step 0"):
        PredictSettings(shortcuts=Shortcuts(step=0))
    with pytest.raises(ConfigError, match="batch 0"):
        PredictSettings(batch=0)
    asked = PredictSettings(device="cpu", probabilities=("stomach",))
    with pytest.raises(DatasetError, match="does not know stomach"):
        predict_cases(trained[1], {}, tmp_path / "out", settings=asked)


class Narrow(torch.nn.Module):
    """A network for which more than `room` windows are too much memory."""

    def __init__(self, network: torch.nn.Module, room: int) -> None:
        super().__init__()
        self.network, self.room = network, room

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        if len(patches) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network(patches)


def test_short_memory_makes_batches_smaller_and_is_said(
    trained: tuple[Dataset, Path], ct: Volume
) -> None:
    model = Model.load(trained[1])
    network = model.build(CPU)
    array = np.tile(ct.array, (3, 2, 1))
    ct = Volume(array, Geometry.from_spacing(array.shape, (4.0, 4.0, 5.0)))
    whole = predict_volume(model, network, ct, device=CPU, batch=2)
    small = predict_volume(model, Narrow(network, 2), ct, device=CPU, batch=8)
    np.testing.assert_array_equal(small.labels.array, whole.labels.array)
    assert small.notes == (
        "out of memory: from then on 4 windows at once",
        "out of memory: from then on 2 windows at once",
    )
    with pytest.raises(PantskitError, match="one window at a time"):
        predict_volume(model, Narrow(network, 0), ct, device=CPU, batch=2)


def test_error_of_a_network_is_no_shortage_of_memory(
    trained: tuple[Dataset, Path], ct: Volume
) -> None:
    class Broken(torch.nn.Module):
        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes do not match"):
        predict_volume(Model.load(trained[1]), Broken(), ct, device=CPU, batch=4)


def test_answer_that_is_not_finite_is_an_error(trained: tuple[Dataset, Path], ct: Volume) -> None:
    class Overflowing(torch.nn.Module):
        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            return torch.full((len(patches), 5, *patches.shape[2:]), torch.inf)

    with pytest.raises(PantskitError, match="not finite"):
        predict_volume(Model.load(trained[1]), Overflowing(), ct, device=CPU)


def test_scan_that_changes_while_it_is_read_is_a_failed_case(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = tmp_path / "scan.nii.gz"
    write_volume(scan, ct)

    def read_and_change(path: Path) -> Volume:
        volume = read_volume(path)
        write_volume(path, ct.with_array(ct.array + np.int16(1)))
        return volume

    monkeypatch.setattr("pantskit.predict.run.read_volume", read_and_change)
    assert "changed while it was read" in message(trained, scan, tmp_path / "out")
    assert not (tmp_path / "out" / "scan" / COMBINED).exists()


def test_windows_without_tissue_may_be_left_out(trained: tuple[Dataset, Path], ct: Volume) -> None:
    """Air around the patient: fewer windows, the same labels in the body."""
    model = Model.load(trained[1])
    facts = model.plans.plans["foreground_intensity_properties_per_channel"]["0"]
    facts |= {"percentile_00_5": -1000.0}
    array = np.full((36, 32, 140), -1000, np.int16, order="F")
    array[:, :, 56:84] = ct.array
    image = Volume(array, Geometry.from_spacing(array.shape, (4.0, 4.0, 5.0), orientation="LAI"))
    network = model.build(CPU)
    exact = predict_volume(model, network, image, device=CPU)
    fast = predict_volume(model, network, image, device=CPU, shortcuts=Shortcuts(skip_air=True))
    assert fast.skipped > 0
    assert fast.windows + fast.skipped == exact.windows
    body = slice(60, 80)
    same = fast.labels.array[:, :, body] == exact.labels.array[:, :, body]
    assert same.mean() > 0.99
    assert not fast.labels.array[:, :, :20].any()


def test_probabilities_lie_where_evaluate_looks(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct)
    settings = replace(ON_CPU, probabilities=("pancreatic_lesion", "liver"), entropy=True)
    out = tmp_path / "out"
    summary = predict_cases(
        trained[1], find_inputs(tmp_path / "scan.nii.gz"), out, settings=settings
    )
    assert summary.exit_status == 0
    chances = read_volume(out / "scan" / "probabilities" / "pancreatic_lesion.nii.gz")
    assert chances.array.dtype == np.float32
    assert chances.geometry.same_grid(ct.geometry)
    assert 0 <= chances.array.min() < 0.1
    assert chances.array.max() <= 1
    # The liver was painted only where none of the other four channels was likelier.
    liver = read_label_map(out / "scan" / COMBINED).array == PANTS.id_of("liver")
    chances = read_volume(out / "scan" / "probabilities" / "liver.nii.gz")
    assert chances.array[liver].min() > 1 / 5
    assert chances.array[~liver].max() < 0.5 + 1e-5
    assert read_volume(out / "scan" / "entropy.nii.gz").array.max() <= np.log(5) + 1e-5


def test_killed_run_goes_on_where_it_was(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    for n in range(12):
        write_volume(scans / f"scan_{n:02}.nii.gz", ct.with_array(ct.array + np.int16(n)))
    command = [sys.executable, "-m", "pantskit", "predict", str(trained[1]), str(scans)]
    process = subprocess.Popen([*command, "--out", str(out), "--device", "cpu"])
    deadline = time.monotonic() + 120
    while not (out / "scan_01" / "prediction.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = sorted(p.parent.name for p in out.glob("*/prediction.json"))
    summary = predict_cases(trained[1], find_inputs(scans), out, settings=ON_CPU)
    assert summary.counts == {"done": 12}
    assert "scan_00" not in summary.ran
    assert len(summary.ran) <= 12 - len(finished) + 2  # the last ones may lack their records
    assert not list(out.rglob(".pantskit-part-*"))
    alone = predict_cases(trained[1], find_inputs(scans), tmp_path / "alone", settings=ON_CPU)
    assert alone.exit_status == 0
    for n in range(12):
        one, other = (
            read_label_map(folder / f"scan_{n:02}" / COMBINED).array
            for folder in (out, tmp_path / "alone")
        )
        np.testing.assert_array_equal(one, other)
