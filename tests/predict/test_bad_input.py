"""What goes wrong at prediction ends in a record that says so, or in the same answer."""

from __future__ import annotations

import errno
import json
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
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError, DatasetError, LabelError, PantskitError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS
from pantskit.core.labelsets import COMBINED
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.records import RecordStore
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume
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


def command(*words: object) -> Result:
    """Run `pantskit predict` on the CPU."""
    line = ["predict", *words, "--device", "cpu"]
    return CliRunner().invoke(cli.app, [str(word) for word in line])


def failure(trained: tuple[Dataset, Path], scan: Path, out: Path) -> str:
    """What the command says of a scan that must fail; its record says the same."""
    result = command(trained[1], scan, "--out", out)
    assert result.exit_code == 1, result.output
    assert "predict: 1 failed" in result.stderr
    (record,) = RecordStore(out).all("predict")
    assert record.status == "failed"
    assert record.message in result.stderr
    assert record.case_id in record.message
    assert not (out / record.case_id / COMBINED).exists()
    return record.message


def test_spacing_in_metres_is_refused(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    affine = np.diag([0.004, 0.004, 0.005, 1])
    image = nib.Nifti1Image(ct.array, affine)
    image.header.set_xyzt_units("meter")
    image.to_filename(tmp_path / "metres.nii.gz")
    said = failure(trained, tmp_path / "metres.nii.gz", tmp_path / "out")
    assert "spacing (0.004, 0.004, 0.005) is outside 0.01 to 50 mm" in said


def test_spacing_in_micron_is_read_in_millimetres_where_those_are_plausible(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    """A real release file says micron beside millimetres."""
    image = nib.Nifti1Image(ct.array, ct.geometry.affine)
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / "micron.nii.gz")
    write_volume(tmp_path / "scan.nii.gz", ct)
    for name in ("micron", "scan"):
        done = command(trained[1], tmp_path / f"{name}.nii.gz", "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(
        read_label_map(tmp_path / "micron" / "micron" / COMBINED).array,
        read_label_map(tmp_path / "scan" / "scan" / COMBINED).array,
    )


def test_scan_of_air_alone_is_refused(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    write_volume(tmp_path / "air.nii.gz", ct.with_array(np.full_like(ct.array, -1000)))
    said = failure(trained, tmp_path / "air.nii.gz", tmp_path / "out")
    assert "it shows nothing but air" in said


def test_one_slice_is_predicted_where_it_is_as_thick_as_a_voxel(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    for name, thick in (("thick", 5.0), ("thin", 1.0)):
        grid = Geometry.from_spacing((*ct.geometry.shape[:2], 1), (4.0, 4.0, thick))
        write_volume(tmp_path / f"{name}.nii.gz", Volume(ct.array[:, :, 12:13], grid))
    done = command(trained[1], tmp_path / "thick.nii.gz", "--out", tmp_path / "done")
    assert done.exit_code == 0, done.output
    labels = read_label_map(tmp_path / "done" / "thick" / COMBINED)
    assert labels.array.shape == (*ct.geometry.shape[:2], 1)
    said = failure(trained, tmp_path / "thin.nii.gz", tmp_path / "out")
    assert "the CT is 1 mm thick and a voxel of the network 6 mm; give a whole scan" in said


def test_scan_of_which_hardly_anything_is_not_zero_is_refused(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    """Zeros are cropped, as by nnU-Net; one slice of 1 mm is left of 28."""
    grid = Geometry.from_spacing(ct.geometry.shape, (4.0, 4.0, 1.0))
    array = np.zeros_like(ct.array)
    array[:, :, 12] = ct.array[:, :, 12]
    write_volume(tmp_path / "zeros.nii.gz", Volume(array, grid))
    said = failure(trained, tmp_path / "zeros.nii.gz", tmp_path / "out")
    assert "what is not 0 of the CT is 1 mm thick and a voxel of the network 6 mm" in said


def elsewhere(trained: tuple[Dataset, Path], folder: Path) -> Path:
    """The model as if nnU-Net itself had trained it."""
    shutil.copytree(trained[1], folder)
    (folder / MODEL_FILE).unlink()
    (folder / "recipe.toml").unlink()
    return folder


def test_hostile_pickle_in_a_model_trained_elsewhere_is_not_run(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    folder = elsewhere(trained, tmp_path / "model")
    torch.save({"network_weights": Hostile(tmp_path / "owned")}, folder / FOLD / CHECKPOINT)
    write_volume(tmp_path / "scan.nii.gz", ct)
    result = command(folder, tmp_path / "scan.nii.gz", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "refused" in result.stderr
    assert str(folder / FOLD / CHECKPOINT) in result.stderr
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "out").exists()


def test_damaged_checkpoint_is_named_before_anything_is_written(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained[1], tmp_path / "model"))
    whole = (folder / FOLD / CHECKPOINT).read_bytes()
    write_volume(tmp_path / "scan.nii.gz", ct)
    for damage in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        (folder / FOLD / CHECKPOINT).write_bytes(damage)
        result = command(folder, tmp_path / "scan.nii.gz", "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert result.stderr.count("error:") == 1
        assert CHECKPOINT in result.stderr
        assert "damaged" in result.stderr
        assert not (tmp_path / "out").exists()


def test_model_whose_labels_are_unknown_is_refused_until_it_is_said_what_they_mean(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    folder = elsewhere(trained, tmp_path / "model")
    facts = json.loads((folder / "dataset.json").read_text())
    facts["labels"] = {"background": 0, "A": 1, "B": 2, "C": 3, "D": 4}
    (folder / "dataset.json").write_text(json.dumps(facts))
    write_volume(tmp_path / "scan.nii.gz", ct)
    words = (folder, tmp_path / "scan.nii.gz", "--out", tmp_path / "out")
    result = command(*words)
    assert result.exit_code == 2
    assert "(A, B, C, D)" in result.stderr
    assert "--label-map" in result.stderr
    result = command(*words, "--label-map", "1=liver,4=spleen")
    assert result.exit_code == 0, result.output
    facts = json.loads((tmp_path / "out" / "scan" / "prediction.json").read_text())
    assert facts["structures"] == ["liver", "spleen"]
    assert facts["unmapped"] == ["B", "C"]


def test_scan_that_lies_otherwise_than_those_of_the_training_gets_the_same_labels(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    assert Model.load(trained[1]).orientation == "LAI"
    write_volume(tmp_path / "in" / "lai.nii.gz", ct.reoriented("LAI"))
    write_volume(tmp_path / "in" / "spr.nii.gz", ct.reoriented("SPR"))
    result = command(trained[1], tmp_path / "in", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    one, other = (read_label_map(tmp_path / "out" / n / COMBINED) for n in ("lai", "spr"))
    assert other.geometry.orientation == "SPR"
    np.testing.assert_array_equal(other.reoriented("LAI").array, one.array)
    assert one.array.any()


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


def narrow(
    trained: tuple[Dataset, Path], folder: Path, room: int, patch: pytest.MonkeyPatch
) -> Path:
    """A model whose network is `Narrow`."""
    build = Model.build
    patch.setattr(Model, "build", lambda self, device: Narrow(build(self, device), room))
    return Path(shutil.copytree(trained[1], folder))  # a network is kept as long as its folder


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


def test_sums_move_to_the_host_where_they_leave_no_room_for_the_network(
    trained: tuple[Dataset, Path], ct: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU whose memory holds the sums or a window: here, at the second window."""
    model = Model.load(trained[1])
    network = model.build(CPU)
    array = np.tile(ct.array, (1, 1, 3))
    ct = Volume(array, Geometry.from_spacing(array.shape, (4.0, 4.0, 5.0)))
    places = [torch.device("cpu"), torch.device("cpu")]
    monkeypatch.setattr("pantskit.predict.case._places_of_sums", lambda device: places)

    class Crowded(torch.nn.Module):
        attempts = 0

        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            self.attempts += 1
            if self.attempts == 2:  # a row of windows is summed by then
                raise torch.OutOfMemoryError("CUDA out of memory")
            return network(patches)

    whole = predict_volume(model, network, ct, device=CPU)
    moved = predict_volume(model, Crowded(), ct, device=CPU)
    assert whole.windows > 2
    np.testing.assert_array_equal(moved.labels.array, whole.labels.array)
    assert moved.windows == whole.windows
    assert moved.notes == ("out of memory: logits were summed on the host",)


def test_short_memory_is_said_by_the_command(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = narrow(trained, tmp_path / "model", 1, monkeypatch)
    array = np.tile(ct.array, (2, 2, 1))
    wide = Volume(array, Geometry.from_spacing(array.shape, (4.0, 4.0, 5.0)))
    write_volume(tmp_path / "scan.nii.gz", wide)
    result = command(model, tmp_path / "scan.nii.gz", "--out", tmp_path / "out", "--batch", 2)
    assert result.exit_code == 0, result.output
    note = "out of memory: from then on one window at once"
    assert f"note: {note} (scan)" in result.stderr
    facts = json.loads((tmp_path / "out" / "scan" / "prediction.json").read_text())
    assert facts["notes"] == [note]


def test_memory_too_short_for_one_window_is_a_failed_case(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = narrow(trained, tmp_path / "model", 0, monkeypatch)
    write_volume(tmp_path / "scan.nii.gz", ct)
    said = failure((trained[0], model), tmp_path / "scan.nii.gz", tmp_path / "out")
    assert "out of memory with one window at a time" in said


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
    assert "changed while it was read" in failure(trained, scan, tmp_path / "out")


def test_prediction_that_cannot_be_written_whole_leaves_nothing(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct)

    def full(folder: Path, *_: object) -> None:
        assert (folder / COMBINED).exists()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "entropy.nii.gz"))

    monkeypatch.setattr("pantskit.predict.run.write_extras", full)
    said = failure(trained, tmp_path / "scan.nii.gz", tmp_path / "out")
    assert "No space left on device; free some space there" in said
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_run_goes_on_where_it_was(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path, how: signal.Signals
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
    process.send_signal(how)
    stopped = {signal.SIGKILL: -9, signal.SIGINT: 130}[how]
    assert process.wait(60) in (stopped, 0)  # 0: on a busy machine, the signal came too late
    finished = sorted(p.parent.name for p in out.glob("*/prediction.json"))
    times = {name: (out / name / "prediction.json").stat().st_mtime_ns for name in finished}
    result = CliRunner().invoke(cli.app, [*command[3:], "--out", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "predict: 12 done" in result.stderr
    again = [n for n in finished if (out / n / "prediction.json").stat().st_mtime_ns > times[n]]
    assert "scan_00" not in again
    assert len(again) <= 2  # those that were killed before their records
    assert not list(out.rglob(".pantskit-part-*"))
    alone = predict_cases(trained[1], find_inputs(scans), tmp_path / "alone", settings=ON_CPU)
    assert alone.exit_status == 0
    for n in range(12):
        one, other = (
            read_label_map(folder / f"scan_{n:02}" / COMBINED).array
            for folder in (out, tmp_path / "alone")
        )
        np.testing.assert_array_equal(one, other)
