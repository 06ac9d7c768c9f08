import json
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.errors import ConfigError, DatasetError, LabelError, PantskitError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS
from pantskit.core.labelsets import COMBINED
from pantskit.core.labelsources import open_label_source
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume
from pantskit.predict.declaration import as_declared, declaration
from pantskit.predict.own_run import predict_own
from pantskit.predict.protocol import OwnModel, own_model_file

# The right of the patient is denser than the left, and the lower end than the upper.
GRID = Geometry.from_spacing((20, 16, 12), (2, 3, 5), orientation="LAI", origin=(30, -20, 10))
THIN = Geometry((4, 16, 12), GRID.affine)

TOY = """
    import numpy as np
    LABELS = {1: "liver", 2: None, 3: "pancreatic_lesion"}

    def load(folder, device):
        return float((folder / "threshold.txt").read_text())

    def predict(model, volume):
        labels = np.zeros(volume.array.shape, np.int64)
        labels[volume.array > model] = 1
        labels[volume.array > 2 * model] = 2
        labels[volume.array > 3 * model] = 3
        return labels
"""


def command(*words: object) -> Result:
    """Run `pantskit predict` on the CPU."""
    line = ["predict", *words, "--device", "cpu"]
    return CliRunner().invoke(cli.app, [str(word) for word in line])


def ct() -> Volume:
    array = np.full(GRID.shape, -100, np.int16, order="F")
    array[2:9, 4:12, 3:9] = 60
    array[4:6, 6:8, 4:6] = 110
    array[7:8, 6:8, 4:6] = 200
    return Volume(array, GRID)


def write_model(folder: Path, text: str = TOY, threshold: float = 50) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "threshold.txt").write_text(str(threshold))
    (folder / "model.py").write_text(dedent(text))
    return folder


def expected() -> np.ndarray:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:9, 4:12, 3:9] = PANTS.id_of("liver")
    labels[4:6, 6:8, 4:6] = 0  # LABELS says that 2 is none of the 28
    labels[7:8, 6:8, 4:6] = PANTS.id_of("pancreatic_lesion")
    return labels


@pytest.mark.parametrize("orientation", ["LAI", "RAS", "PIR"])
def test_label_map_comes_back_on_the_scan_s_own_grid(tmp_path: Path, orientation: str) -> None:
    model = OwnModel.load(write_model(tmp_path))
    image = ct().reoriented(orientation)
    answer = model.answer(image)
    assert answer.labels.geometry.same_grid(image.geometry)
    turned = answer.labels.reoriented("LAI").array
    np.testing.assert_array_equal(turned, expected())
    assert answer.tumor_probability is None  # a label map tells none


def test_model_is_given_what_it_declares() -> None:
    declared = declaration(
        {"LABELS": {1: "liver"}, "ORIENTATION": "RAS", "SPACING": (4, 6, 5), "HU_WINDOW": (0, 80)},
        "model.py",
    )
    given = as_declared(ct(), declared)
    assert given.geometry.orientation == "RAS"
    assert given.geometry.spacing == pytest.approx((4, 6, 5))
    assert given.array.shape == (10, 8, 12)
    assert given.array.dtype == np.float32
    assert (given.array.min(), given.array.max()) == (0, 80)
    # Outer faces are the scan's: corner voxel centres lie half a voxel within them.
    corner = ct().reoriented("RAS").geometry.to_world([-0.5, -0.5, -0.5])
    np.testing.assert_allclose(given.geometry.to_world([-0.5, -0.5, -0.5]), corner)
    # Two voxels of 60 HU, or of -100 clipped to 0, are averaged into one.
    turned = Volume(given.array, given.geometry).reoriented("LAI").array
    assert turned[2, 3, 7] == 60
    assert turned[1, 1, 1] == 0


def test_logits_are_interpolated_back_and_tell_the_tumour_s_probability(tmp_path: Path) -> None:
    text = """
        import torch
        LABELS = {1: "liver", 2: "pancreatic_lesion"}
        SPACING = (4, 6, 5)

        def load(folder, device):
            return torch.tensor(1.0, requires_grad=True)

        def predict(model, volume):
            hu = torch.from_numpy(volume.array.copy())
            liver = (hu - 50) / 10
            lesion = torch.where(hu > 100, liver + 2, liver - 1)
            return torch.stack([torch.zeros_like(hu), liver, lesion]) * model
    """
    answer = OwnModel.load(write_model(tmp_path, text)).answer(ct())
    assert answer.labels.geometry.same_grid(GRID)
    found = answer.labels.array
    assert found[5, 7, 4] == PANTS.id_of("pancreatic_lesion")
    assert found[3, 10, 7] == PANTS.id_of("liver")
    assert found[15, 3, 1] == 0
    # Where there is a lesion its logit is the liver's and 2, and the background's 6 less or more.
    assert answer.tumor_probability == pytest.approx(1 / (1 + np.exp(-2)), abs=0.001)


LOGITS = """
    import numpy as np
    LABELS = {1: "liver", 2: "pancreas", 3: "pancreatic_lesion"}
    LOGITS = True
    SPACING = (4, 3, 5)

    def load(folder, device):
        return None

    def predict(model, volume):
        hu = volume.array
        return np.stack([0 * hu, (hu - 50) / 10, (hu - 60) / 10, (hu - 80) / 10])
"""


def test_probabilities_and_entropy_of_logits_are_written_on_the_scan_s_own_grid(
    tmp_path: Path,
) -> None:
    image = ct().reoriented("PIR")
    write_volume(tmp_path / "scan.nii.gz", image)
    model, out = write_model(tmp_path / "model", LOGITS), tmp_path / "out"
    result = command(
        model, tmp_path / "scan.nii.gz", "--out", out, "--probabilities", "pancreas,liver",
        "--entropy",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    chances = {s: read_volume(out / "scan" / "probabilities" / f"{s}.nii.gz") for s in FOUND}
    entropy = read_volume(out / "scan" / "entropy.nii.gz")
    for volume in (*chances.values(), entropy):
        assert volume.geometry.same_grid(image.geometry)
        assert volume.array.dtype == np.float32
    # Voxels of which pairs along i, and the pairs beside them, are alike.
    turned = {s: v.reoriented("LAI").array for s, v in chances.items()}
    for place, hu in (((5, 5, 4), 60), ((15, 3, 1), -100)):
        assert ct().array[place] == hu
        odds = np.exp([0, (hu - 50) / 10, (hu - 60) / 10, (hu - 80) / 10])
        p = odds / odds.sum()
        assert turned["liver"][place] == pytest.approx(p[1], abs=1e-5)
        assert turned["pancreas"][place] == pytest.approx(p[2] + p[3], abs=1e-5)  # and its lesion
        nats = -(p * np.log(p)).sum()
        assert entropy.reoriented("LAI").array[place] == pytest.approx(nats, abs=1e-5)


FOUND = ("pancreas", "liver")


def test_rerun_writes_probabilities_that_were_not_asked_before(tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct())
    model, out = write_model(tmp_path / "model", LOGITS), tmp_path / "out"
    words = (model, tmp_path / "scan.nii.gz", "--out", out)
    assert command(*words).exit_code == 0
    wanted = out / "scan" / "probabilities" / "liver.nii.gz"
    assert not wanted.exists()
    assert command(*words, "--probabilities", "liver").exit_code == 0
    assert wanted.exists()
    assert command(*words).exit_code == 0
    assert not wanted.exists()  # not of this prediction


MIRRORED = """
    import numpy as np
    LABELS = {1: "liver"}
    LOGITS, MIRROR_AXES = True, (0, 2)

    def load(folder, device):
        return None

    def predict(model, volume):
        first = np.zeros(volume.array.shape, np.float32)
        first[:10] = 4  # half of axis 0, whichever way the scan lies
        return np.stack([0 * first, first - 1])
"""


def test_logits_are_averaged_over_declared_flips_unless_forbidden(tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct())
    model = write_model(tmp_path / "model", MIRRORED)
    words = (model, tmp_path / "scan.nii.gz", "--out")
    for name, options in (("mirrored", ()), ("plain", ("--no-mirror",))):
        assert command(*words, tmp_path / name, *options).exit_code == 0
        facts = json.loads((tmp_path / name / "scan" / "prediction.json").read_text())
        assert facts["mirrored"] == (name == "mirrored")
    mirrored, plain = (
        read_label_map(tmp_path / name / "scan" / COMBINED).array for name in ("mirrored", "plain")
    )
    # 3 in the lower half and -1 in the upper one; 1 everywhere once half of the flips turn it.
    assert (mirrored == PANTS.id_of("liver")).all()
    assert (plain[:10] == PANTS.id_of("liver")).all()
    assert not plain[10:].any()


UNABLE = [
    (TOY, ("--no-mirror",), "declares no MIRROR_AXES"),
    (TOY, ("--probabilities", "liver"), "declare LOGITS = True"),
    (TOY, ("--entropy",), "declare LOGITS = True"),
    (LOGITS, ("--probabilities", "spleen"), "the model does not know spleen; it knows liver"),
    (TOY, ("--probabilities", "elbow"), "'elbow' is none of the 28"),
    (TOY, ("--exact",), "--exact: for trained folders"),
    (TOY, ("--step", "0.7", "--compile"), "--step, --compile: for trained folders"),
    (TOY, ("--skip-air",), "--skip-air: for trained folders"),
    (TOY, ("--bf16",), "--bf16: for trained folders"),
    (TOY, ("--batch", "2"), "--batch: for trained folders"),
    (TOY, ("--label-map", "1=liver"), "--label-map: for trained folders"),
]


@pytest.mark.parametrize(("text", "options", "message"), UNABLE)
def test_what_such_a_model_cannot_do_is_refused_before_anything_runs(
    tmp_path: Path, text: str, options: tuple[str, ...], message: str
) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct())
    text += "\n    def load(folder, device):\n        (folder / 'loaded').touch()\n"
    model = write_model(tmp_path / "model", text)
    result = command(model, tmp_path / "scan.nii.gz", "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("error:") == 1
    assert not (model / "loaded").exists()
    assert not (tmp_path / "out").exists()


def test_label_map_of_a_model_that_promises_logits_is_a_failed_case(tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct())
    model = write_model(tmp_path / "model", TOY + "\n    LOGITS = True\n")
    result = command(model, tmp_path / "scan.nii.gz", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "promises LOGITS and predict gave int64 of shape (20, 16, 12)" in result.stderr


def test_folder_of_predictions_is_read_by_the_scores_own_reader(tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct())
    model = write_model(tmp_path / "model")
    out = tmp_path / "out"
    summary = predict_own(model, {"scan": tmp_path / "scan.nii.gz"}, out, device="cpu")
    assert summary.exit_status == 0
    labels = open_label_source(out)["scan"]
    assert {"liver", "pancreatic_lesion"} <= set(labels.structures())
    assert labels.mask("spleen") is None
    np.testing.assert_array_equal(labels.mask("liver"), expected() == PANTS.id_of("liver"))
    facts = json.loads((out / "scan" / "prediction.json").read_text())
    assert facts["tumor_volume_mm3"] == pytest.approx(4 * 2 * 3 * 5)
    assert facts["tumor_probability"] is None
    assert facts["voxels"] == {"liver": 7 * 8 * 6 - 8 - 4, "pancreatic_lesion": 4}
    again = predict_own(model, {"scan": tmp_path / "scan.nii.gz"}, out, device="cpu")
    assert again.ran == ()


def test_changed_model_is_another_model(tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct())
    inputs, out = {"scan": tmp_path / "scan.nii.gz"}, tmp_path / "out"
    predict_own(write_model(tmp_path / "model"), inputs, out, device="cpu")
    write_model(tmp_path / "model", threshold=10)
    with pytest.raises(DatasetError, match="another model"):
        predict_own(tmp_path / "model", inputs, out, device="cpu")
    predict_own(tmp_path / "model", inputs, tmp_path / "new", device="cpu")
    # 60 HU is above three times 10: all of it is the lesion now.
    found = read_label_map(tmp_path / "new" / "scan" / COMBINED).array
    assert set(np.unique(found)) == {0, PANTS.id_of("pancreatic_lesion")}


def test_weights_may_lie_elsewhere_and_helpers_beside_the_file(tmp_path: Path) -> None:
    file = write_model(tmp_path / "code", "from helper_of_toy import *\n") / "model.py"
    (tmp_path / "code" / "helper_of_toy.py").write_text(dedent(TOY))
    (tmp_path / "code" / "threshold.txt").unlink()
    weights = write_model(tmp_path / "weights", threshold=50)
    found = OwnModel.load(file, weights=weights).answer(ct()).labels.array
    np.testing.assert_array_equal(found, expected())


def test_trained_folder_is_no_model_of_one_s_own(tmp_path: Path) -> None:
    assert own_model_file(write_model(tmp_path)) == tmp_path / "model.py"
    (tmp_path / "plans.json").touch()
    assert own_model_file(tmp_path) is None
    assert own_model_file(tmp_path / "other.py") == tmp_path / "other.py"


PREDICT_NOTHING = "LABELS = {1: 'liver'}\ndef load(f, d): pass\ndef predict(m, v):\n    "


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("def load(f, d): pass\ndef predict(m, v): pass", ConfigError, "declares no LABELS"),
        ("LABELS = {1: 'liver'}\ndef load(f, d): pass", ConfigError, "no function predict"),
        ("LABELS = {1: 'lever'}", ConfigError, "no function load"),
        ("LABELS = {1: 'liver'\n", ConfigError, "SyntaxError, line 1"),
        ("import no_such_module", ConfigError, "ModuleNotFoundError, line 1"),
        (PREDICT_NOTHING + "return 1 / 0", ConfigError, "predict raised ZeroDivisionError, line 4"),
        (PREDICT_NOTHING + "return v.array > 0", ConfigError, "expected an integer label map"),
        (PREDICT_NOTHING + "return v.array[1:].astype(int)", ConfigError, "label map of shape"),
        (PREDICT_NOTHING + "return v.array[None]", ConfigError, "logits are (2, 20, 16, 12)"),
        (PREDICT_NOTHING + "return (v.array > 0) * 7", LabelError, "labels [7]"),
        (
            PREDICT_NOTHING + "import numpy; return numpy.stack([v.array, v.array / 0])",
            ConfigError,
            "not finite",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_errors_of_a_model_are_one_line(
    tmp_path: Path, text: str, error: type[PantskitError], message: str
) -> None:
    write_model(tmp_path, text)
    with pytest.raises(error) as caught:
        OwnModel.load(tmp_path).answer(ct())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"LABELS": {1: "lever"}}, "None means that it is none of them"),
        ({"LABELS": {0: "liver"}}, "0 is no id from 1 to 255"),
        ({"LABELS": {1: None}}, "names none of the 28"),
        ({"LABELS": {1: "liver"}, "ORIENTATION": "LAX"}, "not three codes"),
        ({"LABELS": {1: "liver"}, "SPACING": (1, 2)}, "not 3 numbers"),
        ({"LABELS": {1: "liver"}, "SPACING": (1, 2, 0)}, "SPACING|singular|affine"),
        ({"LABELS": {1: "liver"}, "HU_WINDOW": (50, 50)}, "empty"),
        ({"LABELS": {1: "liver"}, "MIRROR_AXES": (0,)}, "declare LOGITS = True, too"),
        ({"LABELS": {1: "liver"}, "LOGITS": True, "MIRROR_AXES": (3,)}, "axes are 0, 1 and 2"),
    ],
)
def test_declaration_that_cannot_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        declaration(values, "model.py")


IN_PLACE = """
    from __future__ import annotations
    from dataclasses import dataclass
    import torch
    LABELS = {1: "liver"}
    LOGITS, MIRROR_AXES = True, (0, 1)

    @dataclass
    class Net:
        offset: float

    def load(folder, device):
        from beside_in_place import OFFSET
        return Net(OFFSET)

    def predict(model, volume):
        hu = torch.from_numpy(volume.array)
        hu -= model.offset
        hu /= 10
        return torch.stack([torch.zeros_like(hu), hu]).to(torch.bfloat16)
"""


def test_model_may_normalise_in_place_and_import_late(tmp_path: Path) -> None:
    """The CT is 60 HU in the liver; shifted twice by 50, flips would outvote it."""
    model = write_model(tmp_path / "model", IN_PLACE)
    (model / "beside_in_place.py").write_text("OFFSET = 50.0")
    image = Volume(ct().array.astype(np.float32, order="F"), GRID)
    answer = OwnModel.load(model).answer(image)
    np.testing.assert_array_equal(answer.labels.array > 0, ct().array > 50)
    np.testing.assert_array_equal(image.array, ct().array)


def test_model_that_leaves_is_an_error(tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct())
    words = (tmp_path / "m" / "model.py", tmp_path / "scan.nii.gz", "--out", tmp_path / "out")
    write_model(tmp_path / "m", "import sys\nsys.exit(0)")
    result = command(*words)
    assert result.exit_code == 2
    assert "model.py: importing it raised SystemExit, line 2: 0" in result.stderr
    write_model(tmp_path / "m", PREDICT_NOTHING + "raise SystemExit(0)")
    result = command(*words)
    assert result.exit_code == 1
    assert "scan: model.py: predict raised SystemExit, line 4: 0" in result.stderr


def test_what_a_model_prints_is_no_result(tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct())
    model = write_model(
        tmp_path / "m", TOY.replace("labels = ", "print('hello')\n        labels = ")
    )
    result = command(model, tmp_path / "scan.nii.gz", "--out", tmp_path / "out", "--json")
    assert json.loads(result.stdout)["cases"][0]["case_id"] == "scan"
    assert "hello" in result.stderr


def test_file_without_its_functions_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct())
    model = write_model(tmp_path / "m", "LABELS = {1: 'liver'}\ndef load(f, d): pass")
    result = command(model, tmp_path / "scan.nii.gz", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "has no function predict" in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_lies_where_one_works_makes_no_other_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, the scans and the predictions in one folder, as people try things out."""
    monkeypatch.chdir(write_model(tmp_path))
    write_volume(Path("scan.nii.gz"), ct())
    words = ("model.py", "scan.nii.gz", "--out", "out")
    assert command(*words).exit_code == 0
    written = Path("out/scan/prediction.json").stat().st_mtime_ns
    write_volume(Path("another.nii.gz"), ct())
    Path("run.log").write_text("predict: 1 done")
    assert command("model.py", "another.nii.gz", "--out", "out2").exit_code == 0
    result = command(*words)
    assert result.exit_code == 0, result.output
    assert Path("out/scan/prediction.json").stat().st_mtime_ns == written
    Path("threshold.txt").write_text("10")
    result = command(*words)
    assert result.exit_code == 2
    assert "another model, or of other files of ., which count as its weights" in result.stderr


def test_scan_that_the_model_fails_on_is_a_failed_case(tmp_path: Path) -> None:
    write_volume(tmp_path / "good.nii.gz", ct())
    write_volume(tmp_path / "small.nii.gz", Volume(ct().array[:4], THIN))
    text = TOY.replace(
        "labels = np.zeros",
        "assert volume.array.shape[0] > 4, 'too thin'\n        labels = np.zeros",
    )
    inputs = {name: tmp_path / f"{name}.nii.gz" for name in ("good", "small")}
    summary = predict_own(write_model(tmp_path / "m", text), inputs, tmp_path / "out", device="cpu")
    assert summary.counts == {"done": 1, "failed": 1}
    message = summary.not_done[0].message
    assert message.startswith("small: model.py: predict raised AssertionError, line ")
    assert message.endswith(": too thin")
