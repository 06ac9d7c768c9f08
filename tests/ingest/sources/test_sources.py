"""Each dataset in its own layout, made from one phantom: masks come out as the phantom's truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniatures import Miniature, write_dicom, write_nifti

from pantskit.core.errors import DatasetError
from pantskit.core.volume import Volume, read_volume

KIDNEYS = ("kidney_left", "kidney_right")
LUNGS = ("lung_left", "lung_right")
ADRENALS = ("adrenal_gland_left", "adrenal_gland_right")


def test_kits_unites_tumour_and_cyst_and_splits_kidneys_by_side(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "kits23" / "dataset" / "case_00007"
    # KiTS has slices first: axes toward the feet, the back and the left.
    mini.write_ct(folder / "imaging.nii.gz", orientation="IPL")
    painted = {1: mini.mask(*KIDNEYS), 2: mini.part("kidney_left"), 3: mini.part("kidney_right")}
    mini.write_labels(folder / "segmentation.nii.gz", painted, orientation="IPL", dtype=np.uint8)

    made = run("kits23", tmp_path / "kits23")

    made.require_truth(mini, "KiTS23_00007", KIDNEYS)
    record = made.only.data
    assert record["labels"]["united"]["kidney_left"] == ["1 kidney", "2 tumor", "3 cyst"]
    assert record["labels"]["origin"] == {"kidney_left": "expert", "kidney_right": "expert"}
    assert record["metadata"]["lesions"] is None, "a renal tumour says nothing of the pancreas"


def test_imported_ct_is_the_phantoms(mini: Miniature, run: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "case_00000"
    mini.write_ct(folder / "imaging.nii.gz", orientation="RAS", dtype=np.float32)
    mini.write_labels(folder / "segmentation.nii.gz", {1: mini.mask(*KIDNEYS)})

    made = run("kits", tmp_path)

    ct = read_volume(made.dataset.case("KiTS23_00000").image_path)
    truth = mini.ct.reoriented()
    assert ct.array.dtype == np.int16
    assert ct.geometry.same_grid(truth.geometry)
    assert np.array_equal(ct.array, np.clip(truth.array, -1000, 1000))


def test_lits_of_two_batches_with_the_folder_misspelt(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    for batch, number in (("Traing Batch 1", 0), ("Training Batch 2", 28)):
        folder = tmp_path / batch
        mini.write_ct(folder / f"volume-{number}.nii", orientation="RAS")
        painted = {1: mini.mask("liver"), 2: mini.part("liver")}
        mini.write_labels(folder / f"segmentation-{number}.nii", painted, orientation="RAS")

    made = run("lits", tmp_path)

    for case_id in ("LiTS_0", "LiTS_28"):
        made.require_truth(mini, case_id, ["liver"])


def test_values_moved_by_a_slope_are_read_as_the_integers_they_were(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "case_00001"
    mini.write_ct(folder / "imaging.nii.gz")
    painted = {1: mini.mask(*KIDNEYS), 2: mini.part("kidney_left")}
    mini.write_labels(folder / "segmentation.nii.gz", painted, slope=0.00009156)

    made = run("kits23", tmp_path)

    made.require_truth(mini, "KiTS23_00001", KIDNEYS)
    assert any("slope" in fault for fault in made.only.data["labels"]["faults"])


@pytest.mark.parametrize("stored", ["mirrored", "mirrored with another grid", "as it lies"])
def test_pancreas_ct_labels_are_placed_by_the_hu_of_the_organ(
    mini: Miniature, run: Callable, tmp_path: Path, stored: str
) -> None:
    write_dicom(tmp_path / "Pancreas-CT" / "PANCREAS_0001" / "study" / "series", mini.ct)
    labels = tmp_path / "TCIA_pancreas_labels-02-05-2017" / "label0001.nii.gz"
    affine = np.diag([-1.0, -1.0, 2.0, 1.0]) if "grid" in stored else None
    flip = () if stored == "as it lies" else (1,)
    mini.write_labels(labels, {1: mini.mask("pancreas")}, flip=flip, affine=affine)

    made = run("tcia_pancreas_ct", tmp_path)

    made.require_truth(mini, "NIHPancreas_0001", ["pancreas"])
    assert made.only.data["labels"]["flip"] == ("y" if flip else "")
    assert made.only.data["metadata"]["lesions"] == 0, "the source says there is no tumour"
    assert made.only.data["lesion_negative"] is True


def test_extended_labels_of_pancreas_ct_are_another_label_map(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    mini.write_ct(tmp_path / "img" / "PANCREAS_0003.nii.gz")
    wanted = {1: "spleen", 3: "kidney_left", 4: "gall_bladder", 6: "liver", 7: "stomach"}
    wanted |= {11: "pancreas", 14: "duodenum"}
    painted = {i: mini.mask(s) for i, s in wanted.items()} | {5: mini.nowhere()}
    mini.write_labels(tmp_path / "multiorgan_label" / "label0003.nii.gz", painted)

    made = run("pancreas_ct", tmp_path)

    made.require_truth(mini, "NIHPancreas_0003", list(wanted.values()))
    assert made.only.data["labels"]["unmapped"] == ["5 esophagus"]


def test_extended_labels_lie_beside_the_dicom_of_pancreas_ct(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    write_dicom(tmp_path / "Pancreas-CT" / "PANCREAS_0003" / "study" / "series", mini.ct)
    archive = tmp_path / "label_tciapancreasct_multiorgan" / "label_tcia_multiorgan"
    wanted = {1: "spleen", 3: "kidney_left", 4: "gall_bladder", 6: "liver", 7: "stomach"}
    wanted |= {11: "pancreas", 14: "duodenum"}
    mini.write_labels(archive / "label0003.nii.gz", {i: mini.mask(s) for i, s in wanted.items()})
    own = tmp_path / "TCIA_pancreas_labels-02-05-2017" / "label0003.nii.gz"
    mini.write_labels(own, {1: mini.mask("pancreas")})

    made = run("pancreas_ct", tmp_path)

    made.require_truth(mini, "NIHPancreas_0003", list(wanted.values()))
    faults = made.only.data["labels"]["faults"]
    assert any("second label" in f and "is the same" in f for f in faults), "its 1 is our 11"


def test_nothing_is_said_of_a_structure_of_which_no_mask_is_there(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    mini.write_ct(tmp_path / "s0001" / "ct.nii.gz")
    mini.write_labels(tmp_path / "s0001/segmentations/liver.nii.gz", {1: mini.mask("liver")})

    made = run("totalsegmentator", tmp_path)  # whose cysts of the kidneys need not be there

    made.require_truth(mini, "TotalSegmentator_s0001", ["liver"])
    assert made.only.data["labels"]["faults"] == []


def test_masks_and_the_map_of_one_case_are_compared_by_structure(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    case = tmp_path / "BDMAP_00000001"
    mini.write_ct(case / "ct.nii.gz")
    for name in ("aorta", "liver", "spleen"):
        mini.write_labels(case / "segmentations" / f"{name}.nii.gz", {1: mini.mask(name)})
    other = mini.mask("spleen").copy()
    other[tuple(np.argwhere(other)[0])] = False
    mini.write_labels(case / "combined_labels.nii.gz", {1: mini.mask("aorta"), 8: other})

    made = run("abdomenatlas", tmp_path)

    wrong = 1 + int(mini.mask("liver").sum())  # the map has no liver, and a voxel less of spleen
    assert any(f"differs in {wrong} voxels" in f for f in made.only.data["labels"]["faults"])


def test_ct_org_splits_lungs_and_kidneys_and_says_who_made_the_lungs(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    mini.write_ct(tmp_path / "volume-21.nii.gz")
    painted = {1: mini.mask("liver"), 2: mini.mask("bladder"), 3: mini.mask(*LUNGS)}
    painted |= {4: mini.mask(*KIDNEYS), 5: mini.nowhere()}
    mini.write_labels(tmp_path / "labels-21.nii.gz", painted, dtype=np.float32)

    made = run("ct_org", tmp_path)

    made.require_truth(mini, "CTORG_21", ["liver", "bladder", *LUNGS, *KIDNEYS])
    origin = made.only.data["labels"]["origin"]
    assert (origin["lung_left"], origin["liver"]) == ("derived", "expert")


def test_an_organ_that_is_looked_for_and_not_there_has_an_empty_mask(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    mini.write_ct(tmp_path / "volume-3.nii.gz")
    painted = {1: mini.mask("liver"), 3: mini.mask(*LUNGS), 4: mini.mask(*KIDNEYS)}
    mini.write_labels(tmp_path / "labels-3.nii.gz", painted)

    made = run("ct_org", tmp_path)

    assert made.only.data["labels"]["empty"] == ["bladder"]
    mask = made.dataset.case("CTORG_3").labels().mask("bladder")
    assert mask is not None
    assert not mask.any()


def test_rsna_takes_labelled_series_as_test_and_skips_the_others(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    write_dicom(tmp_path / "train_images" / "10004" / "21057", mini.ct)
    write_dicom(tmp_path / "train_images" / "10005" / "18667", mini.ct)
    wanted = {1: "liver", 2: "spleen", 3: "kidney_left", 4: "kidney_right"}
    painted = {i: mini.mask(s) for i, s in wanted.items()} | {5: mini.nowhere()}
    mini.write_labels(tmp_path / "segmentations" / "21057.nii", painted)

    made = run("rsna_trauma_2023", tmp_path)

    made.require_truth(mini, "RSNA2023_10004_21057", list(wanted.values()))
    assert made.dataset.case("RSNA2023_10004_21057").split == "test"
    assert made.records["RSNA2023_10005_18667"].status == "skipped"
    assert made.exit_status == 0


def test_chaos_masks_are_pictures_in_the_order_of_the_slices(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    from PIL import Image

    folder = tmp_path / "CHAOS_Train_Sets" / "Train_Sets" / "CT" / "5"
    write_dicom(folder / "DICOM_anon", mini.ct, own_series=True)
    (folder / "Ground").mkdir()
    liver = mini.mask("liver")
    upward = liver if mini.geometry.affine[2, 2] > 0 else liver[:, :, ::-1]
    for k in range(liver.shape[2]):
        picture = Image.fromarray((upward[:, :, k].T * 255).astype(np.uint8))
        picture.save(folder / "Ground" / f"liver_GT_{k:03d}.png")

    made = run("chaos", tmp_path)

    made.require_truth(mini, "CHAOS_5", ["liver"])
    assert made.only.data["metadata"]["lesions"] is None, "a healthy liver is no healthy pancreas"


BTCV = ("spleen", "kidney_right", "kidney_left", "gall_bladder", None, "liver", "stomach", "aorta",
        "postcava", "veins", "pancreas", "adrenal_gland_right", "adrenal_gland_left")  # fmt: skip
AMOS = ("spleen", "kidney_right", "kidney_left", "gall_bladder", None, "liver", "stomach", "aorta",
        "postcava", "pancreas", "adrenal_gland_right", "adrenal_gland_left", "duodenum",
        "bladder", "prostate")  # fmt: skip
FLARE = ("liver", "kidney_right", "spleen", "pancreas", "aorta", "postcava",
         "adrenal_gland_right", "adrenal_gland_left", "gall_bladder", None, "stomach",
         "duodenum", "kidney_left")  # fmt: skip


def _painted(mini: Miniature, names: tuple[str | None, ...]) -> dict[int, np.ndarray]:
    return {i: mini.mask(s) if s else mini.nowhere() for i, s in enumerate(names, 1)}


def test_btcv_with_13_labels_leaves_the_duodenum_open(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "Abdomen" / "RawData" / "Training"
    mini.write_ct(folder / "img" / "img0001.nii.gz", orientation="LAS")
    mini.write_labels(
        folder / "label" / "label0001.nii.gz", _painted(mini, BTCV), orientation="LAS"
    )

    made = run("btcv", tmp_path)

    made.require_truth(mini, "BTCV_0001", [s for s in BTCV if s])


def test_abdomenct_1k_splits_kidneys_and_skips_what_has_no_label(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    for number in (1, 2):
        mini.write_ct(tmp_path / "imagesTr" / f"Case_{number:05d}_0000.nii.gz")
    painted = {1: mini.mask("liver"), 2: mini.mask(*KIDNEYS), 3: mini.mask("spleen")}
    painted |= {4: mini.mask("pancreas")}
    mini.write_labels(tmp_path / "labels" / "Case_00001.nii.gz", painted)

    made = run("abdomenct-1k", tmp_path)

    wanted = ["liver", *KIDNEYS, "spleen", "pancreas"]
    made.require_truth(mini, "AbdomenCT1K_00001", wanted)
    assert made.records["AbdomenCT1K_00002"].status == "skipped"


def test_word_splits_adrenals_and_leaves_femurs_of_which_the_head_alone_is_drawn(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    names = ("liver", "spleen", "kidney_left", "kidney_right", "stomach", "gall_bladder", None,
             "pancreas", "duodenum", "colon", None)  # fmt: skip
    painted = _painted(mini, names)
    painted |= {12: mini.mask(*ADRENALS), 14: mini.mask("bladder")}
    painted |= {15: mini.part("femur_left"), 16: mini.part("femur_right")}
    for part, number in (("Tr", 2), ("Ts", 14)):
        mini.write_ct(tmp_path / f"images{part}" / f"word_{number:04d}.nii.gz")
        mini.write_labels(tmp_path / f"labels{part}" / f"word_{number:04d}.nii.gz", painted)

    made = run("word", tmp_path)

    wanted = [s for s in names if s] + [*ADRENALS, "bladder"]
    made.require_truth(mini, "WORD_0002", wanted)
    assert [made.dataset.case(c).split for c in ("WORD_0002", "WORD_0014")] == ["train", "test"]
    faults = made.records["WORD_0002"].data["labels"]["faults"]
    assert "femur_left is left out: only the head is drawn" in faults


def test_structures_drawn_in_part_come_when_they_are_asked_for(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    mini.write_ct(tmp_path / "imagesTr" / "word_0002.nii.gz")
    painted = {1: mini.mask("liver"), 15: mini.part("femur_left"), 16: mini.part("femur_right")}
    mini.write_labels(tmp_path / "labelsTr" / "word_0002.nii.gz", painted)

    made = run("word", tmp_path, partial=True)

    assert {"femur_left", "femur_right"} <= made.structures("WORD_0002")


@pytest.mark.parametrize(("sex", "extra"), [("M", ["prostate"]), ("F", []), (None, [])])
def test_amos_has_a_prostate_only_in_men_and_no_mr(
    mini: Miniature, run: Callable, tmp_path: Path, sex: str | None, extra: list[str]
) -> None:
    for number in (4, 507):  # 507 is MR
        mini.write_ct(tmp_path / "imagesTr" / f"amos_{number:04d}.nii.gz")
        mini.write_labels(tmp_path / "labelsTr" / f"amos_{number:04d}.nii.gz", _painted(mini, AMOS))
    if sex:
        table = f"amos_id,Patient's Sex,Patient's Age\n4,{sex},058Y\n507,M,040Y\n"
        (tmp_path / "labeled_data_meta_0000_0599.csv").write_text(table)

    made = run("amos", tmp_path)

    wanted = [s for s in AMOS if s and s != "prostate"] + extra
    made.require_truth(mini, "AMOS_0004", wanted)
    assert list(made.records) == ["AMOS_0004"]
    assert made.only.data["metadata"]["sex"] == sex
    assert made.only.data["metadata"]["age_years"] == (58 if sex else None)


def test_msd_tasks_have_their_own_labels_and_only_task07_has_pancreatic_tumours(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    lesion, parenchyma = mini.mask("pancreatic_lesion"), mini.mask("pancreas")
    tasks = {
        "Task03_Liver/{}Tr/liver_000": {1: mini.mask("liver"), 2: mini.part("liver")},
        "Task06_Lung/{}Tr/lung_001": {1: mini.part("lung_left")},
        "Task07_Pancreas/{}Tr/pancreas_001": {1: parenchyma, 2: lesion},
        "Task08_HepaticVessel/{}Tr/hepaticvessel_001": {1: mini.nowhere(), 2: mini.part("liver")},
        "Task09_Spleen/{}Tr/spleen_002": {1: mini.mask("spleen")},
        "Task10_Colon/{}Tr/colon_001": {1: mini.part("colon")},
    }
    for place, painted in tasks.items():
        image = tmp_path / f"{place.format('images')}.nii.gz"
        mini.write_ct(image, orientation="RAS", dtype=np.float32)
        mini.write_labels(tmp_path / f"{place.format('labels')}.nii.gz", painted, orientation="RAS")
        (image.parent / f"._{image.name}").write_bytes(b"left by macOS")
        (image.parents[1] / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}}))

    made = run("msd", tmp_path)

    made.require_truth(mini, "MSD_liver_000", ["liver"])
    made.require_truth(mini, "MSD_pancreas_001", ["pancreas", "pancreatic_lesion"])
    made.require_truth(mini, "MSD_spleen_002", ["spleen"])
    assert made.records["MSD_pancreas_001"].data["metadata"]["lesions"] == 1
    for case_id in ("MSD_lung_001", "MSD_hepaticvessel_001", "MSD_colon_001"):
        made.require_truth(mini, case_id, [])
    assert len(made.records) == 6


def test_one_msd_task_is_enough(mini: Miniature, run: Callable, tmp_path: Path) -> None:
    task = tmp_path / "Task09_Spleen"
    mini.write_ct(task / "imagesTr" / "spleen_010.nii.gz")
    mini.write_labels(task / "labelsTr" / "spleen_010.nii.gz", {1: mini.mask("spleen")})

    made = run("msd_ct", task)

    made.require_truth(mini, "MSD_spleen_010", ["spleen"])


def test_panorama_of_two_folders_prefers_manual_labels_and_keeps_who_made_them(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    duct, lesion = mini.mask("pancreatic_duct"), mini.mask("pancreatic_lesion")
    painted = {2: mini.mask("veins"), 3: mini.mask("celiac_artery"), 4: mini.mask("pancreas")}
    painted |= {5: duct, 6: mini.mask("common_bile_duct"), 1: lesion}
    normal = {i: m for i, m in painted.items() if i != 1}
    labels = tmp_path / "panorama_labels"
    for patient in ("100001", "100002"):
        mini.write_ct(tmp_path / "batch_1" / f"{patient}_00001_0000.nii.gz", orientation="RAS")
    mini.write_labels(labels / "manual_labels" / "100001_00001.nii.gz", painted)
    mini.write_labels(labels / "automatic_labels" / "100001_00001.nii.gz", normal)
    mini.write_labels(labels / "automatic_labels" / "100002_00001.nii.gz", normal)

    made = run("panorama", tmp_path / "batch_1", labels)

    always = ["pancreas", "pancreatic_duct", "common_bile_duct"]
    made.require_truth(mini, "PANORAMA_100001_00001", [*always, "pancreatic_lesion"])
    made.require_truth(mini, "PANORAMA_100002_00001", always)
    first, second = (made.records[f"PANORAMA_10000{n}_00001"].data for n in (1, 2))
    assert first["labels"]["origin"]["pancreatic_lesion"] == "expert", "drawn by hand"
    assert first["labels"]["origin"]["pancreas"] == "model", "predicted in every scan"
    assert second["labels"]["origin"]["pancreas"] == "model"
    assert second["metadata"]["lesions"] is None, "other lesions than PDAC are not drawn"
    differing = int(lesion.sum())
    told = f"automatic_labels/100001_00001.nii.gz) was left; it differs in {differing} voxels"
    assert any(told in fault for fault in first["labels"]["faults"])
    assert first["metadata"]["patient_id"] == "PANORAMA_100001"


def test_release_of_pants_keeps_every_mask_and_its_test_set(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    wanted = ["liver", "pancreas", "pancreatic_lesion", "kidney_left"]
    for part, number in (("Tr", 42), ("Te", 9001)):
        name = f"PanTS_{number:08d}"
        mini.write_ct(tmp_path / f"Image{part}" / name / "ct.nii.gz", orientation="RAS")
        for structure in wanted:
            path = tmp_path / f"Label{part}" / name / "segmentations" / f"{structure}.nii.gz"
            write_nifti(path, mini.mask(structure), mini.geometry)
    rows = "PanTS ID,sex,age,ct phase\nPanTS_00000042,M,61,venous\n"
    (tmp_path / "metadata.csv").write_text(rows)

    made = run("pants", tmp_path)

    for case_id, split in (("PanTS_00000042", "train"), ("PanTS_00009001", "test")):
        made.require_truth(mini, case_id, wanted)
        assert made.dataset.case(case_id).split == split
    row = made.records["PanTS_00000042"].data["metadata"]
    assert (row["sex"], row["age_years"], row["phase"]) == ("M", 61, "portal_venous")
    assert row["phase_source"] == "label"


def test_combined_maps_of_pants_need_their_ids_said(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "LabelTr" / "PanTS_00000003"
    mini.write_ct(tmp_path / "ImageTr" / folder.name / "ct.nii.gz")
    painted = {14: mini.mask("liver"), 22: mini.mask("pancreatic_lesion")}
    mini.write_labels(folder / "combined_labels.nii.gz", painted)

    silent = run("pants", tmp_path)
    made = run("pants", tmp_path, label_map="pants_alphabetical")

    assert "declares no label space" in silent.only.message
    labels = made.dataset.case("PanTS_00000003").labels()
    for structure in ("liver", "pancreatic_lesion"):
        assert np.array_equal(labels.mask(structure), mini.truth(structure))


def test_flare22_and_flare23_differ_in_what_absence_means(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    present = {i: m for i, m in _painted(mini, FLARE).items() if FLARE[i - 1] != "spleen"}
    first, second = tmp_path / "22" / "Training", tmp_path / "23"
    mini.write_ct(first / "images" / "FLARE22_Tr_0001_0000.nii.gz")
    mini.write_labels(first / "labels" / "FLARE22_Tr_0001.nii.gz", present)
    mini.write_ct(second / "imagesTr2200" / "FLARE23_0001_0000.nii.gz")
    tumour = {14: mini.nowhere()}
    mini.write_labels(second / "labelsTr2200" / "FLARE23_0001.nii.gz", present | tumour)

    made = run("flare22", first)
    again = run("flare23", second, out=tmp_path / "OTHER")

    assert made.only.data["labels"]["empty"] == ["spleen"]
    wanted = [s for s in FLARE if s and s != "spleen"]
    again.require_truth(mini, "FLARE23_0001", wanted)
    assert "14 tumor of any organ" in again.only.data["labels"]["unmapped"]


def test_totalsegmentator_unites_lobes_and_leaves_a_lung_of_which_one_is_missing(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "s0011"
    mini.write_ct(folder / "ct.nii.gz", orientation="RAS")
    upper = mini.part("lung_left", 0.5)
    masks = {"lung_upper_lobe_left": upper, "liver": mini.mask("liver")}
    masks["lung_lower_lobe_left"] = mini.mask("lung_left") & ~upper
    masks["lung_upper_lobe_right"] = mini.mask("lung_right")
    masks["gallbladder"], masks["heart"] = mini.mask("gall_bladder"), mini.nowhere()
    for name, mask in masks.items():
        write_nifti(folder / "segmentations" / f"{name}.nii.gz", mask, mini.geometry)
    (tmp_path / "meta.csv").write_text("image_id;age;gender\ns0011;64;m\n")

    made = run("totalsegmentator", tmp_path)

    made.require_truth(mini, "TotalSegmentator_s0011", ["lung_left", "liver", "gall_bladder"])
    labels = made.only.data["labels"]
    assert labels["unmapped"] == ["heart"]
    assert any(f.startswith("lung_right is left out: lung_middle") for f in labels["faults"])
    assert made.only.data["metadata"]["age_years"] == 64


@pytest.mark.parametrize("form", ["masks", "map"])
def test_abdomenatlas_by_masks_and_by_its_combined_map(
    mini: Miniature, run: Callable, tmp_path: Path, form: str
) -> None:
    folder = tmp_path / "BDMAP_00000012"
    mini.write_ct(folder / "ct.nii.gz")
    ids = {1: "aorta", 5: "liver", 13: "celiac_artery", 23: "veins"}
    if form == "map":
        painted = {i: mini.mask(s) for i, s in ids.items()}
        mini.write_labels(folder / "combined_labels.nii.gz", painted)
    else:
        names = {"celiac_artery": "celiac_trunk", "veins": "portal_vein_and_splenic_vein"}
        for structure in ids.values():
            path = folder / "segmentations" / f"{names.get(structure, structure)}.nii.gz"
            write_nifti(path, mini.mask(structure), mini.geometry)

    made = run("abdomenatlas", tmp_path)

    if form == "masks":
        made.require_truth(mini, "BDMAP_00000012", list(ids.values()))
    else:
        labels = made.dataset.case("BDMAP_00000012").labels()
        for structure in ids.values():
            assert np.array_equal(labels.mask(structure), mini.truth(structure))
        assert "spleen" in made.only.data["labels"]["empty"]
        assert labels.mask("colon") is None, "version 1.0 did not draw it"
    assert made.only.data["labels"]["origin"]["liver"] == "model"


def test_abdomenct_12organ(mini: Miniature, run: Callable, tmp_path: Path) -> None:
    names = ("liver", None, "spleen", "pancreas", "aorta", "postcava", "stomach", "gall_bladder",
             None, "adrenal_gland_right", "adrenal_gland_left", "celiac_artery")  # fmt: skip
    painted = _painted(mini, names) | {2: mini.mask(*KIDNEYS)}
    mini.write_ct(tmp_path / "imagesTr" / "Organ12_0001_0000.nii.gz")
    mini.write_labels(tmp_path / "labelsTr" / "Organ12_0001.nii.gz", painted)

    made = run("abdomenct_12organ", tmp_path)

    made.require_truth(mini, "AbdomenCT12organ_0001", [s for s in names if s] + list(KIDNEYS))


def test_nnunet_raw_folder_by_the_names_of_its_labels(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    root = tmp_path / "Dataset701_Abdomen"
    mini.write_ct(root / "imagesTr" / "a_0000.nii.gz")
    painted = {1: mini.mask("liver"), 2: mini.mask(*KIDNEYS), 3: mini.mask("postcava")}
    mini.write_labels(root / "labelsTr" / "a.nii.gz", painted | {4: mini.nowhere()})
    labels = {"background": 0, "Liver": 1, "kidneys": 2, "inferior vena cava": 3, "oesophagus": 4}
    index = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(index | {"numTraining": 1}))

    made = run("nnunet", root)

    made.require_truth(mini, "a", ["liver", *KIDNEYS, "postcava"])
    assert made.only.data["labels"]["unmapped"] == ["4 oesophagus"]


def test_nnunet_regions_and_a_label_map_given_by_hand(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    root = tmp_path / "Dataset002_Pancreas"
    mini.write_ct(root / "imagesTr" / "b_0000.nii.gz")
    painted = {1: mini.mask("pancreas"), 2: mini.mask("pancreatic_lesion")}
    mini.write_labels(root / "labelsTr" / "b.nii.gz", painted)
    index = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "numTraining": 1}
    regions = {"background": 0, "pancreas": [1, 2], "pancreatic_lesion": 2}
    (root / "dataset.json").write_text(json.dumps(index | {"labels": regions}))

    made = run("nnunet", root)
    given = run("nnunet", root, out=tmp_path / "B", label_map="msd_pancreas")

    for one in (made, given):
        one.require_truth(mini, "b", ["pancreas", "pancreatic_lesion"])


def test_monai_datalist(mini: Miniature, run: Callable, tmp_path: Path) -> None:
    mini.write_ct(tmp_path / "scans" / "x.nii.gz")
    mini.write_labels(tmp_path / "masks" / "x.nii.gz", {1: mini.mask("spleen")})
    mini.write_ct(tmp_path / "scans" / "y.nii.gz")
    index = {
        "labels": {"0": "background", "1": "spleen"},
        "training": [{"fold": 0, "image": ["scans/x.nii.gz"], "label": "masks/x.nii.gz"}],
        "testing": ["scans/y.nii.gz"],
    }
    (tmp_path / "folds.json").write_text(json.dumps(index))

    made = run("monai", tmp_path)

    made.require_truth(mini, "x", ["spleen"])
    assert made.records["y"].status == "skipped"


def test_monai_datalist_of_a_folder_a_patient_is_named_by_the_folders(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    for patient in "ab":
        mini.write_ct(tmp_path / "data" / patient / "ct.nii.gz")
        mini.write_labels(tmp_path / "data" / patient / "seg.nii.gz", {1: mini.mask("liver")})
    data = "../data"
    entry = {p: {"image": f"{data}/{p}/ct.nii.gz", "label": f"{data}/{p}/seg.nii.gz"} for p in "ab"}
    file = tmp_path / "lists" / "datalist.json"
    file.parent.mkdir()
    said = {"labels": {"0": "background", "1": "liver"}, "training": list(entry.values())}
    file.write_text(json.dumps(said))

    made = run("monai", file.parent)

    assert set(made.records) == {"a_ct", "b_ct"}
    made.require_truth(mini, "b_ct", ["liver"])

    file.write_text(json.dumps(said | {"validation": [entry["a"]]}))
    with pytest.raises(DatasetError, match="a_ct is listed twice"):
        run("monai", file.parent)


def test_a_dataset_of_ones_own_is_a_file(mini: Miniature, run: Callable, tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(
        'title = "Mine"\ncase = "Mine_{id}"\nannotated = ["pancreas"]\n'
        '[[layouts]]\nname = "ours"\nimage = "p{id#}/scan.nii"\nlabels = "p{id#}/seg.nii"\n'
        '[ids]\n7 = "pancreas"\n9 = { name = "fat", is = [] }\n'
    )
    mini.write_ct(tmp_path / "data" / "p3" / "scan.nii.gz")
    mini.write_labels(tmp_path / "data" / "p3" / "seg.nii.gz", {7: mini.mask("pancreas")})

    made = run(str(own), tmp_path / "data")

    made.require_truth(mini, "Mine_3", ["pancreas"])


def test_a_horseshoe_kidney_is_cut_at_the_middle(
    mini: Miniature, run: Callable, tmp_path: Path
) -> None:
    bridged = mini.mask(*KIDNEYS)
    _, j, k = (int(v) for v in np.argwhere(bridged).mean(axis=0))
    columns = np.flatnonzero(bridged[:, j, k])
    bridged[columns[0] : columns[-1], j, k] = True
    folder = tmp_path / "case_00002"
    mini.write_ct(folder / "imaging.nii.gz")
    mini.write_labels(folder / "segmentation.nii.gz", {1: bridged})

    made = run("kits23", tmp_path)

    labels = made.dataset.case("KiTS23_00002").labels()
    left, right = labels.mask("kidney_left"), labels.mask("kidney_right")
    assert not (left & right).any()
    assert np.array_equal(left | right, Volume(bridged, mini.geometry).reoriented().array)
    own_left, own_right = mini.truth("kidney_left"), mini.truth("kidney_right")
    assert np.array_equal(left & own_left, own_left)
    assert np.array_equal(right & own_right, own_right)
    assert any("cut at the middle" in f for f in made.only.data["labels"]["faults"])
