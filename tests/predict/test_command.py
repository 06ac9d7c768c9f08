"""`pantskit predict` by its options; what it wrote is read by nibabel, SimpleITK and highdicom."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import dicom_series_made
import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.dataset import Dataset
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS, STRUCTURES
from pantskit.core.volume import Volume, read_volume
from pantskit.predict.formats import write_answer

# In the release's class map; the model of these tests knows four structures.
LIVER, PANCREAS, SPLEEN, LESION = 14, 17, 24, 28
KNOWN = ("liver", "pancreas", "spleen", "pancreatic_lesion")


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def ran(*words: object) -> Result:
    result = run(*words, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    return result


@dataclass(frozen=True)
class Read:
    """A file as nibabel reads it."""

    array: NDArray[Any]
    affine: NDArray[np.float64]

    @classmethod
    def file(cls, path: Path) -> Read:
        image = nibabel.load(path)
        return cls(np.asarray(image.dataobj), image.affine)


def tilted(degrees: float) -> NDArray[np.float64]:
    """A rotation in world space, about x and then about z."""
    a = np.deg2rad(degrees)
    about_x, about_z = np.eye(4), np.eye(4)
    about_x[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    about_z[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return about_z @ about_x


@pytest.fixture(scope="module")
def ct(trained: tuple[Dataset, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan the model has not seen, on an oblique grid with flipped and permuted axes."""
    image = read_volume(trained[0].cases("test")[0].image_path)
    turned = image.reoriented("PIR")
    path = tmp_path_factory.mktemp("ct") / "scan.nii.gz"
    affine = tilted(8) @ turned.geometry.affine
    nibabel.save(nibabel.Nifti1Image(np.asarray(turned.array), affine), path)
    return path


@pytest.fixture(scope="module")
def everything(
    trained: tuple[Dataset, Path], ct: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """The form `pants` with all that can be asked, and what --json printed."""
    out = tmp_path_factory.mktemp("everything") / "out"
    asked = "liver,spleen,pancreas,pancreatic_lesion"
    result = ran(
        "predict", trained[1], ct, "--out", out, "--masks", "--probabilities", asked, "--entropy",
        "--json",
    )  # fmt: skip
    return out, json.loads(result.stdout)


def test_every_file_lies_on_the_ct_s_own_oblique_grid(
    everything: tuple[Path, Any], ct: Path
) -> None:
    expected = Read.file(ct)
    files = [*(everything[0] / "scan").rglob("*.nii.gz")]
    assert sorted(str(p.relative_to(everything[0] / "scan")) for p in files) == sorted(
        [
            "combined_labels.nii.gz",
            "entropy.nii.gz",
            *(f"probabilities/{s}.nii.gz" for s in KNOWN),
            *(f"segmentations/{s}.nii.gz" for s in KNOWN),
        ]
    )
    for path in files:
        found = Read.file(path)
        assert found.array.shape == expected.array.shape
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)


def test_simpleitk_finds_the_answer_on_the_ct_s_grid(
    everything: tuple[Path, Any], ct: Path
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image, labels = (
        sitk.ReadImage(str(p)) for p in (ct, everything[0] / "scan" / "combined_labels.nii.gz")
    )
    assert labels.GetSize() == image.GetSize()
    assert labels.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    for index in [(0, 0, 0), tuple(n - 1 for n in image.GetSize()), (3, 0, 7)]:
        np.testing.assert_allclose(
            labels.TransformIndexToPhysicalPoint(index),
            image.TransformIndexToPhysicalPoint(index),
            atol=1e-3,
        )


def test_masks_are_unions_of_the_map_s_ids(everything: tuple[Path, Any]) -> None:
    folder = everything[0] / "scan"
    combined = Read.file(folder / "combined_labels.nii.gz").array
    ids = {
        "liver": [LIVER],
        "spleen": [SPLEEN],
        "pancreas": [PANCREAS, LESION],
        "pancreatic_lesion": [LESION],
    }
    for structure, members in ids.items():
        mask = Read.file(folder / "segmentations" / f"{structure}.nii.gz").array
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, np.isin(combined, members))


def channels(folder: Path) -> NDArray[np.float64]:
    """(5, i, j, k) probabilities of background, liver, spleen, rest of the pancreas, lesion."""
    p = {s: Read.file(folder / "probabilities" / f"{s}.nii.gz").array for s in KNOWN}
    rest = p["pancreas"].astype(float) - p["pancreatic_lesion"]  # the pancreas holds its lesion
    known = [p["liver"].astype(float), p["spleen"], rest, p["pancreatic_lesion"]]
    return np.stack([1 - sum(known), *known])


def test_probabilities_say_what_the_map_says(everything: tuple[Path, Any]) -> None:
    folder = everything[0] / "scan"
    p = channels(folder)
    assert p.min() > -1e-5
    assert p.max() < 1 + 1e-5
    combined = Read.file(folder / "combined_labels.nii.gz").array
    best = np.array([0, LIVER, SPLEEN, PANCREAS, LESION])[p.argmax(0)]
    two = np.sort(p, axis=0)[-2:]
    sure = two[1] - two[0] > 1e-4  # not where rounding decides
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(best[sure], combined[sure])


def test_entropy_is_that_of_the_probabilities(everything: tuple[Path, Any]) -> None:
    folder = everything[0] / "scan"
    p = np.clip(channels(folder), 1e-12, 1)
    entropy = Read.file(folder / "entropy.nii.gz").array
    np.testing.assert_allclose(entropy, -(p * np.log(p)).sum(0), atol=1e-3)


def test_prediction_json_says_what_was_done_and_found(
    everything: tuple[Path, Any], trained: tuple[Dataset, Path]
) -> None:
    out, printed = everything
    (case,) = printed["cases"]
    said = json.loads((out / "scan" / "prediction.json").read_text())
    assert case == said
    read = Read.file(out / "scan" / "combined_labels.nii.gz")
    ids = {"liver": LIVER, "pancreas": PANCREAS, "spleen": SPLEEN, "pancreatic_lesion": LESION}
    assert said["voxels"] == {s: int((read.array == n).sum()) for s, n in ids.items()}
    voxel = abs(np.linalg.det(read.affine[:3, :3]))
    expected = (read.array == LESION).sum() * voxel
    assert said["tumor_volume_mm3"] == pytest.approx(expected, rel=1e-4)
    # On the network's grid, of which the file's values are interpolated.
    lesion = Read.file(out / "scan" / "probabilities" / "pancreatic_lesion.nii.gz").array
    assert 0.95 * lesion.max() <= said["tumor_probability"] <= 1
    whole = json.loads((out / "dataset.json").read_text())
    assert whole["annotated"] == said["structures"] == list(KNOWN)
    assert whole["model"] == said["model"]
    assert whole["label_space"] == said["label_space"] == "pants"
    assert whole["kind"] == "predictions"
    assert said["case_id"] == "scan"
    assert said["format"] == whole["format"] == "pants"
    assert said["postprocess"] == {}
    assert said["orientation"] == json.loads((trained[1] / "model.json").read_text())["orientation"]
    assert said["device"] == "cpu"
    assert said["folds"] == 1
    assert said["windows"] > 0
    assert said["windows_skipped"] == 0
    assert said["shortcuts"] == said["shortcuts"] | {"step": 0.5, "skip_air": False, "bf16": False}
    assert said["seconds"] > 0
    assert {"torch", "nnunetv2", "pantskit"} <= set(said["versions"])


def test_shortcuts_do_what_they_say_and_are_recorded(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    """A scan of 84 x 5 mm is 70 voxels of the network, which takes 24: 5 rows of windows, or 3."""
    image = read_volume(trained[0].cases("test")[0].image_path)
    tall = np.concatenate([np.asarray(image.array)] * 3, axis=2)
    tall[:, :, 36:] = -1000  # air from the 30th of the network's slices on
    nibabel.save(nibabel.Nifti1Image(tall, image.geometry.affine), tmp_path / "tall.nii.gz")
    options = {
        "exact": (),
        "steps": ("--step", 1.0),
        "air": ("--skip-air",),
        "all": ("--no-mirror", "--step", 1.0, "--skip-air", "--bf16", "--batch", 2),
    }
    said, liver = {}, {}
    for name, words in options.items():
        out = tmp_path / name
        ran("predict", trained[1], tmp_path / "tall.nii.gz", "--out", out, *words)
        said[name] = json.loads((out / "tall" / "prediction.json").read_text())
        liver[name] = Read.file(out / "tall" / "combined_labels.nii.gz").array == LIVER
    counts = {n: (s["windows"], s["windows_skipped"]) for n, s in said.items()}
    assert counts["exact"] == (5, 0)
    assert counts["steps"] == (3, 0)
    # They begin at 0, 12, 23, 34 and 46, or at 0, 23 and 46; interpolation blurs the border.
    assert counts["air"] == (3, 2)
    assert counts["all"] == (2, 1)
    assert said["all"]["mirrored"] is False
    for name, (step, air, bf16) in {"exact": (0.5, False, False), "all": (1.0, True, True)}.items():
        expected = {"step": step, "skip_air": air, "bf16": bf16}
        assert said[name]["shortcuts"] == said[name]["shortcuts"] | expected
    for name in options:
        found, exact = liver[name][:, :, :28], liver["exact"][:, :, :28]
        assert (found & exact).sum() > 0.4 * (found.sum() + exact.sum()), name


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        ("nnunet", {LIVER: 1, PANCREAS: 2, SPLEEN: 3, LESION: 4}),
        ("msd07", {LIVER: 0, PANCREAS: 1, SPLEEN: 0, LESION: 2}),
    ],
)
def test_flat_forms_hold_the_same_answer_in_their_own_ids(
    trained: tuple[Dataset, Path],
    ct: Path,
    tmp_path: Path,
    everything: tuple[Path, Any],
    form: str,
    numbers: dict[int, int],
) -> None:
    out = tmp_path / "out"
    extra = ("--format", form, "--probabilities", "pancreatic_lesion")
    ran("predict", trained[1], ct, "--out", out, *extra)
    assert sorted(p.name for p in out.iterdir() if p.name[0] != ".") == [
        "dataset.json",
        "scan",
        "scan.nii.gz",
    ]
    found = Read.file(out / "scan.nii.gz")
    answer = Read.file(everything[0] / "scan" / "combined_labels.nii.gz").array
    expected = np.zeros_like(answer)
    for pants, own in numbers.items():
        expected[answer == pants] = own
    np.testing.assert_array_equal(found.array, expected)
    assert found.array.dtype == np.uint8
    np.testing.assert_allclose(found.affine, Read.file(ct).affine, atol=1e-4)
    assert (out / "scan" / "probabilities" / "pancreatic_lesion.nii.gz").is_file()
    said = json.loads((out / "scan" / "prediction.json").read_text())
    assert said["format"] == form
    assert said["label_space"] is None


def test_msd07_of_all_28_structures(tmp_path: Path) -> None:
    """A voxel of each structure; by hand, the six of the gland are 1 and 2, all others 0."""
    array = np.arange(29, dtype=np.uint8).reshape(29, 1, 1)
    image = Volume(array, Geometry.from_spacing(array.shape, (1, 2, 3), orientation="SLA"))
    write_answer("msd07", tmp_path, "scan", image, image, tuple(STRUCTURES), model="0" * 32)
    expected = np.zeros(29, np.uint8)
    # pancreas, body, head, tail, duct of the release's class map, and the lesion.
    expected[[17, 18, 19, 20, 21]], expected[28] = 1, 2
    np.testing.assert_array_equal(Read.file(tmp_path / "scan.nii.gz").array.ravel(), expected)


def oblique_dicom(folder: Path, hu: NDArray[np.int16]) -> NDArray[np.float64]:
    """Write (k, row, column) HU as a tilted series; returns the affine in LPS of (i, j, k)."""
    made = dicom_series_made.series(hu)
    turned = tilted(12)
    lps = turned @ np.diag([-1.0, -1, 1, 1]) @ made.geometry.affine
    for path in made.write(folder).iterdir():
        header = pydicom.dcmread(path)
        k = header.InstanceNumber - 1
        position = lps @ [0, 0, k, 1]
        header.ImagePositionPatient = [f"{v:.6f}" for v in position[:3]]
        header.ImageOrientationPatient = [f"{v:.9f}" for v in turned[:3, :2].T.ravel()]
        header.save_as(path)
    return lps


def test_dicom_seg_lies_where_its_oblique_series_does(
    trained: tuple[Dataset, Path], tmp_path: Path
) -> None:
    """Read by highdicom alone: its affine of the segmentation, its pixels of each segment."""
    scan = read_volume(trained[0].cases("test")[0].image_path)
    lps = oblique_dicom(tmp_path / "dicom", np.asarray(scan.array).transpose(2, 1, 0))
    # The CT as somebody else's converter would have made it: flipped, axes in another order.
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = scan.array.shape[0] - 1
    permuted = np.eye(4)[:, [2, 0, 1, 3]]
    affine = np.diag([-1.0, -1, 1, 1]) @ lps @ flipped @ permuted
    array = np.asarray(scan.array)[::-1].transpose(2, 0, 1)
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "scan.nii.gz")
    words = ("predict", trained[1], tmp_path / "scan.nii.gz", "--postprocess", "islands", "--out")
    ran(*words, tmp_path / "pants")
    ran(*words, tmp_path / "seg", "--format", "dicom-seg", "--dicom", tmp_path / "dicom")
    labels = Read.file(tmp_path / "pants" / "scan" / "combined_labels.nii.gz").array
    expected = labels.transpose(1, 2, 0)[::-1]  # as the series: (i, j, k)
    seg = highdicom.seg.segread(tmp_path / "seg" / "scan" / "segmentation.dcm")
    volume = seg.get_volume()  # (frame, row, column, segment) of the slices that have a frame
    to_series = np.linalg.inv(lps) @ volume.affine
    np.testing.assert_allclose(to_series, np.round(to_series), atol=1e-2)
    wanted = {"liver": [LIVER], "spleen": [SPLEEN], "pancreas": [PANCREAS, LESION],
              "pancreatic_lesion": [LESION]}  # fmt: skip
    assert {s.SegmentLabel for s in seg.SegmentSequence} == set(wanted)
    for n, segment in enumerate(seg.SegmentSequence):
        shown = np.zeros(expected.shape, bool)
        places = np.argwhere(volume.array[..., n]) @ np.round(to_series[:3, :3]).T
        shown[tuple((places + np.round(to_series[:3, 3])).astype(int).T)] = True
        np.testing.assert_array_equal(shown, np.isin(expected, wanted[segment.SegmentLabel]))


# A scan whose voxels are the labels that its model must give: HU is ten times the id, and 5.
ECHO = """
    import numpy as np
    LABELS = {NUMBERS}

    def load(folder, device):
        return None

    def predict(model, volume):
        return np.maximum(volume.array - 5, 0).astype(int) // 10
"""
# 4 mm voxels; i runs to the patient's left.
BOXES = {
    "liver": np.s_[5:22, 10:30, 2:18],
    "spleen": np.s_[46:54, 8:16, 4:16],
    "aorta": np.s_[30:33, 8:11, :],
    "postcava": np.s_[26:29, 8:11, :],
    "kidney_right": np.s_[12:20, 6:10, 22:36],
    "kidney_left": np.s_[40:48, 6:10, 20:34],
    "pancreas": np.s_[24:46, 14:18, 20:24],
    "pancreatic_lesion": np.s_[30:33, 15:17, 21:23],
}
# What is wrong with it, and what of it each step puts right.
ISLAND = np.s_[55:57, 35:37, 35:37]  # of the liver, in the air
STRAY = np.s_[8:11, 20:23, 8:11]  # a lesion in the liver
SWAPPED = np.s_[12:20, 6:10, 30:36]  # of the right kidney, called left
RIGHT = {"islands": [ISLAND], "sides": [SWAPPED], "stray-lesions": [STRAY]}


def body() -> NDArray[np.uint8]:
    labels = np.zeros((60, 40, 40), np.uint8)
    for structure, box in BOXES.items():
        labels[box] = PANTS.id_of(structure)
    return labels


def faulty() -> NDArray[np.uint8]:
    labels = body()
    labels[ISLAND] = LIVER
    labels[STRAY] = LESION
    labels[SWAPPED] = PANTS.id_of("kidney_left")
    return labels


def write_echo(folder: Path, structures: tuple[str, ...]) -> Path:
    folder.mkdir()
    numbers = {PANTS.id_of(s): s for s in structures}
    numbers |= {n: None for n in range(1, 29) if n not in numbers}
    (folder / "model.py").write_text(dedent(ECHO).replace("{NUMBERS}", repr(numbers)))
    return folder / "model.py"


def write_ct(path: Path, labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Write labels as a CT on an oblique grid whose first axis runs to the back of the patient."""
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (120, -80, -60)
    turned = tilted(6) @ affine @ np.eye(4)[:, [1, 2, 0, 3]]
    hu = np.where(labels > 0, 10 * labels.astype(np.int16) + 5, -100).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(hu.transpose(1, 2, 0), turned), path)
    return turned


@pytest.mark.parametrize("steps", ["none", "islands", "sides", "stray-lesions", "all"])
def test_each_step_of_postprocessing_puts_its_own_fault_right(tmp_path: Path, steps: str) -> None:
    model = write_echo(tmp_path / "code", tuple(BOXES))
    affine = write_ct(tmp_path / "scan.nii.gz", faulty())
    out = tmp_path / "out"
    ran("predict", model, tmp_path / "scan.nii.gz", "--out", out, "--postprocess", steps)
    expected = faulty()
    for box in [b for s in RIGHT if steps in (s, "all") for b in RIGHT[s]]:
        expected[box] = body()[box]
    found = Read.file(out / "scan" / "combined_labels.nii.gz")
    np.testing.assert_array_equal(found.array.transpose(2, 0, 1), expected)
    np.testing.assert_allclose(found.affine, affine, atol=1e-4)
    said = json.loads((out / "scan" / "prediction.json").read_text())
    assert said["voxels"] == {s: int((expected == PANTS.id_of(s)).sum()) for s in said["voxels"]}
    assert said["tumor_volume_mm3"] == pytest.approx((expected == LESION).sum() * 64, rel=1e-4)
    changes = {
        "islands": [{"structure": "liver", "became": None, "voxels": 8}],
        "sides": [{"structure": "kidney_left", "became": "kidney_right", "voxels": 192}],
        "stray-lesions": [{"structure": "pancreatic_lesion", "became": "liver", "voxels": 27}],
    }
    assert said["postprocess"] == {
        s: {"changed": c, "doubts": []} for s, c in changes.items() if steps in (s, "all")
    }
    assert list(said["postprocess"]) == [s for s in changes if steps in (s, "all")]


def test_a_model_of_the_lesion_alone_leaves_the_pancreas_unpredicted(tmp_path: Path) -> None:
    """The pancreas is not predicted, whether or not a lesion was found, and is scored worst."""
    model = write_echo(tmp_path / "code", ("pancreatic_lesion",))
    scans, truth = tmp_path / "scans", tmp_path / "truth"
    for case_id, labels in (("ill", body()), ("well", np.where(body() == LESION, 0, body()))):
        scans.mkdir(exist_ok=True)
        affine = write_ct(scans / f"{case_id}.nii.gz", labels)
        for structure, ids in (("pancreas", [17, 28]), ("pancreatic_lesion", [28])):
            (truth / case_id).mkdir(parents=True, exist_ok=True)
            mask = np.isin(labels, ids).astype(np.uint8).transpose(1, 2, 0)
            nibabel.save(nibabel.Nifti1Image(mask, affine), truth / case_id / f"{structure}.nii.gz")
    ran("predict", model, scans, "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["annotated"] == [
        "pancreatic_lesion"
    ]
    result = run("evaluate", tmp_path / "out", truth, "--out", tmp_path / "scores")
    assert result.exit_code == 0, result.stderr
    with (tmp_path / "scores" / "scores.csv").open(newline="") as file:
        status = {(r["case_id"], r["structure"]): r["status"] for r in csv.DictReader(file)}
    assert status == {
        ("ill", "pancreas"): "not_predicted",
        ("ill", "pancreatic_lesion"): "scored",
        ("well", "pancreas"): "not_predicted",
        ("well", "pancreatic_lesion"): "both_empty",
    }


def test_case_scores_do_not_depend_on_postprocessing_or_form(
    trained: tuple[Dataset, Path], ct: Path, tmp_path: Path, everything: tuple[Path, Any]
) -> None:
    scores = [everything[1]["cases"][0]["tumor_probability"]]
    for name, options in (("all", ("--postprocess", "all")), ("msd", ("--format", "msd07"))):
        ran("predict", trained[1], ct, "--out", tmp_path / name, *options)
        said = json.loads((tmp_path / name / "scan" / "prediction.json").read_text())
        scores.append(said["tumor_probability"])
    assert all(a == pytest.approx(b) for a, b in pairwise(scores))
