"""Contrast phase: header words while HU allow them, else HU of organs, else nothing."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pydicom
import pytest

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.labels import STRUCTURES, LabelMap
from pantskit.core.volume import read_volume
from pantskit.ingest.facts.phase import OrganHU, decide_phase, measure_organs, phases_left
from pantskit.phantom.case import make_case
from pantskit.phantom.render import render
from pantskit.phantom.scans import CohortPlan, scanner_for
from pantskit.phantom.tissues import PHASES


def organs(**hu: float) -> dict[str, OrganHU]:
    """Organs of 1000 voxels that are as even as noise lets them."""
    return {
        name.replace("_", " "): OrganHU(1000, value, 27.0, value + 25, value + 40)
        for name, value in hu.items()
    }


# Published mean HU: plain blood 45 plus enhancements of Goshima et al., AJR 2006 for arterial and
# portal venous; Radiopaedia's late arterial.
PUBLISHED = [
    ("non_contrast", organs(aorta=42, portal_vein=42, kidneys=32, spleen=48, liver=57)),
    ("arterial", organs(aorta=363, portal_vein=135, spleen=150, liver=77)),
    ("arterial", organs(aorta=325, portal_vein=145, spleen=140, liver=85)),
    ("arterial", organs(aorta=300, portal_vein=50)),
    ("portal_venous", organs(aorta=166, portal_vein=185, spleen=125, liver=118)),
    ("portal_venous", organs(aorta=150, portal_vein=170, vena_cava=140, liver=101)),
    ("delayed", organs(aorta=110, portal_vein=112, vena_cava=108, liver=92)),
]


@pytest.mark.parametrize(("phase", "found"), PUBLISHED)
def test_published_means_give_their_phase(phase, found):
    told = decide_phase(None, "no description names a phase", found)
    assert (told.value, told.source, told.hu) == (phase, "hu", phase)


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ({}, set(PHASES)),
        (organs(liver=110), set(PHASES)),
        # An anaemic patient's plain blood, and a barely enhanced one's, look alike at 80 HU.
        (organs(aorta=80), {"non_contrast", "portal_venous", "delayed"}),
        # The portal vein at two thirds of the aorta: a pancreatic phase.
        (organs(aorta=235, portal_vein=170), {"arterial", "portal_venous"}),
        (organs(aorta=240), {"arterial", "portal_venous"}),
        # Equal vessels at 140 HU: a low dose at 70 s or a high one at 3 min.
        (organs(aorta=140, portal_vein=142), {"portal_venous", "delayed"}),
        (organs(kidneys=180), {"portal_venous", "delayed"}),
        # A splenic artery aneurysm is no spleen; organs that contradict each other tell nothing.
        (organs(aorta=40, spleen=130), set()),
    ],
)
def test_what_published_values_leave_open_stays_open(found, left):
    assert phases_left(found) == left
    assert decide_phase(None, "no words", found).value is None


def test_urine_with_contrast_makes_equal_vessels_delayed():
    vessels = organs(aorta=140, portal_vein=142, vena_cava=139)
    urine = {"bladder": OrganHU(5000, 220, 40, 260, 280)}
    assert phases_left(vessels | urine) == {"delayed"}
    # Contrast of an earlier injection does not make an arterial scan delayed.
    assert phases_left(organs(aorta=320, portal_vein=60) | urine) == {"arterial"}


def test_cortex_apart_from_medulla_is_not_delayed():
    kidneys = {"kidneys": OrganHU(20000, 140, 100, 200, 215)}
    assert phases_left(kidneys) == {"arterial", "portal_venous"}


def test_header_stays_while_hu_allow_it():
    told = decide_phase("portal_venous", "by the words of SeriesDescription", organs(liver=101))
    assert (told.value, told.source, told.hu) == ("portal_venous", "header", None)
    agreed = decide_phase("arterial", "by the words of SeriesDescription", PUBLISHED[1][1])
    assert agreed.reason == (
        "by the words of SeriesDescription; HU agree: aorta 363, portal vein 135, spleen 150, "
        "liver 77"
    )


def test_header_that_hu_exclude_gives_way_and_both_are_kept():
    told = decide_phase("arterial", "by the words of SeriesDescription", PUBLISHED[4][1])
    assert (told.value, told.source) == ("portal_venous", "hu")
    record = told.as_record()
    assert (record["phase_header"], record["phase_hu"]) == ("arterial", "portal_venous")
    assert record["organ_hu"]["aorta"] == 166
    assert "aorta 166" in told.reason
    assert "which HU exclude" in told.reason


def test_header_that_hu_exclude_without_telling_another_leaves_none():
    told = decide_phase("non_contrast", "by the words of ProtocolName", organs(aorta=235))
    assert told.value is None
    assert "HU leave arterial or portal venous: aorta 235" in told.reason


def test_organs_that_contradict_each_other_leave_the_header_alone():
    told = decide_phase("delayed", "by the words of ProtocolName", organs(aorta=40, spleen=130))
    assert (told.value, told.source) == ("delayed", "header")
    assert "contradict" in told.reason


def test_early_and_late_arterial_differ_by_the_portal_vein():
    assert decide_phase(None, "", organs(aorta=300, portal_vein=50)).timing == "early"
    assert decide_phase(None, "", organs(aorta=325, portal_vein=145)).timing == "late"
    assert decide_phase(None, "", organs(aorta=325)).timing is None


def test_few_voxels_tell_nothing():
    few = {"aorta": OrganHU(99, 320.0)}
    assert decide_phase(None, "no words", few).value is None


def test_organs_are_measured_over_both_kidneys_and_overlapping_sets():
    ct = np.zeros((6, 5, 4), np.int16)
    masks = {s: np.zeros(ct.shape, bool) for s in ("kidney_left", "kidney_right", "liver")}
    masks["kidney_left"][:2, 0, 0] = True
    masks["kidney_right"][3:6, 1, 2] = True
    masks["liver"][3, 1, 2] = masks["liver"][0, 4, 3] = True  # one voxel is a kidney's too
    ct[:2, 0, 0] = [10, 20]
    ct[3:6, 1, 2] = [30, 40, 2000]
    ct[0, 4, 3] = -3000
    found = measure_organs(np.ascontiguousarray(ct), CodedMasks.from_masks(masks))
    assert set(found) == {"kidneys", "liver"}
    assert (found["kidneys"].voxels, found["kidneys"].median) == (5, 30)
    assert found["kidneys"].p98 == 1000  # clipped as the CT will be
    assert found["liver"].voxels == 2


@pytest.mark.parametrize("number", [0, 1])
def test_phantoms_of_every_phase_come_out_as_such(number):
    case = make_case(CohortPlan(cases=2, seed=3, size="small", tumor_rate=0.5), number)
    coded = CodedMasks.from_masks({s: case.mask(s) for s in STRUCTURES})
    scanner = scanner_for(case.scan.site, "small")
    for phase in PHASES:
        rng = case.scan.rng(2)
        ct = render(case.tissues, case.geometry.spacing, phase, rng, scanner=scanner)
        assert decide_phase(None, "", measure_organs(ct, coded)).value == phase


def test_totalsegmentators_example_is_a_plain_ct(shared_data):
    folder = shared_data / "totalsegmentator"
    ct = read_volume(folder / "example_ct.nii.gz").array
    labels = read_volume(folder / "example_seg_fast_force_split.nii.gz").array
    label_map = LabelMap.parse("totalsegmentator")
    coded = CodedMasks.from_label_map(labels.astype(np.uint8), label_map)
    clipped = np.clip(ct, -1000, 1000).astype(np.int16)
    told = decide_phase(None, "no words", measure_organs(clipped, coded))
    assert (told.value, told.source) == ("non_contrast", "hu")


def test_ircadb_is_portal_venous_by_its_vessels_and_not_clear_by_its_liver(shared_data):
    archive = shared_data / "ircadb01_case17" / "ircadb17_patient_and_masks_dicom.zip"
    with zipfile.ZipFile(archive) as files:

        def stack(part: str, every: int) -> np.ndarray:
            names = [n for n in files.namelist() if f"{part}/" in n and not n.endswith("/")]
            slices = [pydicom.dcmread(io.BytesIO(files.read(n))) for n in names]
            slices.sort(key=lambda s: s.ImagePositionPatient[2])
            return np.stack([s.pixel_array.T for s in slices[::every]], axis=2).astype(np.int16)

        ct = stack("PATIENT_DICOM", 3)
        # The vessels' masks hold more than the structures they stand for here.
        names = {"artery": "aorta", "portalvein": "veins", "venoussystem": "postcava"}
        masks = {ours: stack(theirs, 3) > 0 for theirs, ours in names.items()}
        masks["liver"] = stack("/liver", 3) > 0
    by_all = decide_phase(None, "", measure_organs(ct, CodedMasks.from_masks(masks)))
    assert (by_all.value, by_all.source) == ("portal_venous", "hu")
    liver = CodedMasks.from_masks({"liver": masks["liver"]})
    assert decide_phase(None, "", measure_organs(ct, liver)).value is None
