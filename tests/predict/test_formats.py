import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import dicom_series_made
import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr._concepts_dict import concepts

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError, DatasetError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import PANTS, STRUCTURES
from pantskit.core.labelsources import open_label_source
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.terms import structure_terms
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.predict.formats import FORMATS, dataset_json, require_format
from pantskit.predict.own_run import predict_own
from pantskit.predict.results import Output

# A scan whose voxels are the labels that its model must give: HU is ten times the id, and 5.
SHAPE = (14, 10, 6)
TOY = """
    import numpy as np
    LABELS = {14: "liver", 12: "kidney_left", 17: "pancreas", 19: "pancreas_head",
              21: "pancreatic_duct", 28: "pancreatic_lesion"}

    def load(folder, device):
        return None

    def predict(model, volume):
        return np.maximum(volume.array - 5, 0).astype(int) // 10
"""
BOXES = {
    "liver": np.s_[1:5, 1:8, 1:5],
    "kidney_left": np.s_[10:13, 1:4, 0:3],
    "pancreas": np.s_[6:12, 5:9, 2:5],
    "pancreas_head": np.s_[6:8, 5:9, 2:5],
    "pancreatic_duct": np.s_[8:11, 6:7, 3:4],
    "pancreatic_lesion": np.s_[10:12, 7:9, 3:5],
}


def ids() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for structure, box in BOXES.items():
        labels[box] = PANTS.id_of(structure)
    return labels


def hu() -> np.ndarray:
    labels = ids().astype(np.int16)
    return np.where(labels > 0, 10 * labels + 5, -100).astype(np.int16)


def truth(structure: str) -> np.ndarray:
    return np.isin(ids(), PANTS.evaluation_ids(structure))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "code" / "model.py"
    file.parent.mkdir()
    file.write_text(dedent(TOY))
    return file


def predicted(model: Path, image: Volume, folder: Path, **output: Any) -> Path:
    """The predictions' folder of one CT called `scan`."""
    write_volume(folder / "scan.nii.gz", image)
    out = folder / "out"
    settings = Output(**output)
    inputs = {"scan": folder / "scan.nii.gz"}
    summary = predict_own(model, inputs, out, device="cpu", output=settings)
    assert not summary.not_done, summary.not_done[0].message
    return out


def scan() -> Volume:
    return Volume(hu(), Geometry.from_spacing(SHAPE, (2, 3, 4), orientation="LPS"))


def test_nnunet_folder_is_flat_and_its_dataset_json_says_the_ids(
    model: Path, tmp_path: Path
) -> None:
    out = predicted(model, scan(), tmp_path, format="nnunet")
    said = json.loads((out / "dataset.json").read_text())
    assert said["labels"] == {
        "background": 0,
        "kidney_left": 1,
        "liver": 2,
        "pancreas": 3,
        "pancreas_head": 4,
        "pancreatic_duct": 5,
        "pancreatic_lesion": 6,
    }
    assert said["file_ending"] == ".nii.gz"
    written = read_label_map(out / "scan.nii.gz")
    assert written.label_space is None
    assert sorted(np.unique(written.array)) == [0, 1, 2, 3, 4, 5, 6]
    labels = open_label_source(out)["scan"]
    for structure in BOXES:
        np.testing.assert_array_equal(labels.mask(structure), truth(structure), structure)
    assert (out / "scan" / "prediction.json").is_file()


def test_nnunet_s_own_label_manager_reads_the_dataset_json() -> None:
    handling = pytest.importorskip("nnunetv2.utilities.label_handling.label_handling")
    labels = dataset_json("nnunet", ("liver", "spleen"))["labels"]
    manager = handling.LabelManager(labels, None)
    assert manager.all_labels == [0, 1, 2]
    assert not manager.has_regions


def test_msd07_puts_parts_and_duct_into_the_pancreas(model: Path, tmp_path: Path) -> None:
    out = predicted(model, scan(), tmp_path, format="msd07")
    array = read_label_map(out / "scan.nii.gz").array
    np.testing.assert_array_equal(array == 2, truth("pancreatic_lesion"))
    np.testing.assert_array_equal(array > 0, truth("pancreas"))
    said = json.loads((out / "dataset.json").read_text())
    assert said["labels"] == {"0": "background", "1": "pancreas", "2": "cancer"}
    labels = open_label_source(out)["scan"]
    assert labels.structures() == ("pancreas", "pancreatic_lesion")
    np.testing.assert_array_equal(labels.mask("pancreas"), truth("pancreas"))


def test_masks_of_the_pants_form_contain_their_members(model: Path, tmp_path: Path) -> None:
    out = predicted(model, scan(), tmp_path, masks=True)
    folder = out / "scan" / "segmentations"
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{s}.nii.gz" for s in BOXES)
    for structure in BOXES:
        found = read_label_map(folder / f"{structure}.nii.gz").array > 0
        np.testing.assert_array_equal(found, truth(structure), structure)


def test_postprocessing_is_written_and_recorded(model: Path, tmp_path: Path) -> None:
    image = scan()
    image.array[13, 9, 5] = 145  # one voxel of liver, far from the liver
    plain = predicted(model, image, tmp_path / "plain")
    mended = predicted(model, image, tmp_path / "mended", postprocess=("islands",))
    facts = [json.loads((o / "scan" / "prediction.json").read_text()) for o in (plain, mended)]
    assert [f["voxels"]["liver"] for f in facts] == [113, 112]
    assert facts[0]["postprocess"] == {}
    assert facts[1]["postprocess"]["islands"]["changed"] == [
        {"structure": "liver", "became": None, "voxels": 1}
    ]


def dicom_and_scan(folder: Path, **changes: Any) -> tuple[Path, Volume]:
    """A DICOM series and the CT made from it, in an orientation of its own."""
    made = dicom_series_made.series(hu().transpose(2, 1, 0), **changes)
    image = Volume(hu(), made.geometry).reoriented("RAS")
    return made.write(folder), image


def test_dicom_seg_refers_to_its_slices_and_ingest_reads_it_back(
    model: Path, tmp_path: Path
) -> None:
    from pantskit.ingest import IngestSettings, ingest

    folder, image = dicom_and_scan(tmp_path / "dicom")
    out = predicted(model, image, tmp_path, format="dicom-seg", dicom=folder)
    path = out / "scan" / "segmentation.dcm"
    seg = highdicom.seg.segread(path)
    sources = [pydicom.dcmread(p) for p in folder.iterdir()]
    assert {s.SegmentLabel for s in seg.SegmentSequence} == set(BOXES)
    assert seg.PatientID == sources[0].PatientID
    assert seg.StudyInstanceUID == sources[0].StudyInstanceUID
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == sources[0].SeriesInstanceUID
    # Each slice by highdicom's own reading, against the boxes.
    planes = {s.SOPInstanceUID: s for s in sources}
    order = sorted(planes, key=lambda uid: float(planes[uid].ImagePositionPatient[2]))
    for n, structure in enumerate(seg.SegmentSequence, 1):
        pixels = seg.get_pixels_by_source_instance(
            order, segment_numbers=[n], assert_missing_frames_are_empty=True
        )[..., 0]
        np.testing.assert_array_equal(
            pixels.transpose(2, 1, 0) > 0, truth(structure.SegmentLabel), structure.SegmentLabel
        )
    ingest([folder], tmp_path / "dataset", IngestSettings(labels=out, workers=0))
    case = Dataset.open(tmp_path / "dataset").cases()[0]
    labels = case.labels()
    assert labels is not None
    assert set(labels.structures()) == set(BOXES)
    for structure in BOXES:
        found = Volume(labels.mask(structure), labels.geometry).reoriented("LPS").array
        np.testing.assert_array_equal(found, truth(structure), structure)


def test_series_is_told_by_its_values_where_two_share_a_grid(model: Path, tmp_path: Path) -> None:
    folder, image = dicom_and_scan(tmp_path / "dicom" / "venous")
    other = dicom_series_made.series(hu().transpose(2, 1, 0) + 40)
    other.write(tmp_path / "dicom" / "arterial")
    out = predicted(model, image, tmp_path, format="dicom-seg", dicom=folder.parent)
    seg = pydicom.dcmread(out / "scan" / "segmentation.dcm")
    venous = pydicom.dcmread(next(folder.iterdir()))
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == venous.SeriesInstanceUID


def test_segmentation_without_its_series_is_refused(model: Path, tmp_path: Path) -> None:
    def message(image: Volume, dicom: Path, name: str) -> str:
        write_volume(tmp_path / name / "scan.nii.gz", image)
        settings = Output(format="dicom-seg", dicom=dicom)
        inputs = {"scan": tmp_path / name / "scan.nii.gz"}
        summary = predict_own(model, inputs, tmp_path / name / "o", device="cpu", output=settings)
        return summary.not_done[0].message

    folder, image = dicom_and_scan(tmp_path / "dicom")
    cropped = Volume(hu()[1:], Geometry((13, 10, 6), image.geometry.affine))
    assert "none of its 1 CT series lies on this grid" in message(cropped, folder, "cropped")
    brighter = image.with_array(image.array + np.int16(3))
    assert "on its grid, but with other values" in message(brighter, folder, "brighter")
    dicom_series_made.series(hu().transpose(2, 1, 0)).write(tmp_path / "dicom" / "twin")
    twice = message(image, folder, "twice")
    assert "2 series that both are this CT" in twice
    assert str(tmp_path / "dicom") in twice
    (tmp_path / "empty").mkdir()
    assert "no regular series" in message(image, tmp_path / "empty", "none")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "dicom"}, "format 'dicom' is unknown"),
        ({"name": "nnunet", "masks": True}, "--masks"),
        ({"name": "dicom-seg"}, "--dicom"),
        ({"name": "dicom-seg", "dicom": Path("nowhere")}, "nowhere: no such folder of DICOM"),
        ({"name": "pants", "dicom": Path("x")}, "belongs to --format dicom-seg"),
        ({"name": "msd07", "structures": ("liver", "pancreas_head")}, "knows the pancreas"),
    ],
)
def test_form_that_cannot_be_filled_is_refused_at_once(
    settings: dict[str, Any], message: str
) -> None:
    given = {"structures": ("liver",), "masks": False, "dicom": None} | settings
    with pytest.raises(ConfigError, match=message):
        require_format(given.pop("name"), given.pop("structures"), **given)


def test_folder_holds_one_form(model: Path, tmp_path: Path) -> None:
    out = predicted(model, scan(), tmp_path, format="msd07")
    with pytest.raises(DatasetError, match="predictions in the format msd07"):
        predict_own(model, {}, out, output=Output(format="nnunet"))
    assert len(FORMATS) == 4


def test_every_structure_has_a_term_that_dicom_s_own_tables_know() -> None:
    terms = structure_terms()
    assert set(terms) == set(STRUCTURES)
    known = {value for codes in concepts["SCT"].values() for value in codes}
    outside = {s for s, t in terms.items() if t.kind.value not in known}
    # Subsets and unions that DICOM's context groups leave to SNOMED CT.
    assert outside == {"pancreas_head", "pancreas_body", "pancreas_tail", "veins"}
    for name, structure in STRUCTURES.items():
        side = terms[name].side
        assert (side.meaning.lower() if side else None) == structure.side


def test_terms_alone_tell_ingest_the_structure() -> None:
    from pantskit.ingest.labels.segment_names import described_segment
    from pantskit.predict.dicom_seg import _description

    for number, structure in enumerate(STRUCTURES, 1):
        item = _description(number, structure, "0" * 32)
        item.SegmentLabel = "unnamed"
        assert described_segment(item).structures(None) == (structure,), structure
