"""Rules over a dataset, from made-up numbers of its cases."""

from __future__ import annotations

from dataclasses import replace

from blocks import faults

from pantskit.check.cohort import Cohort, Measured


def case(n, **values):
    given = {"annotated": ("liver",), "ml": {"liver": 1500.0 + n}, "spacing": (0.8, 0.8, 1.0)}
    return Measured(f"case_{n:02d}", "train", **(given | values))


def test_volume_far_from_the_datasets_own_median_is_unusual():
    cases = [case(n) for n in range(25)]
    assert faults("unusual", Cohort(tuple(cases))) == []
    (fault,) = faults("unusual", Cohort((*cases, case(25, ml={"liver": 300.0}))))
    assert (fault.case_id, fault.structure) == ("case_25", "liver")


def test_organ_that_the_view_cuts_is_not_compared():
    cases = [*(case(n) for n in range(25)), case(25, ml={"liver": 300.0}, cut=("liver",))]
    assert faults("unusual", Cohort(tuple(cases))) == []


def test_spacing_unlike_all_others_is_unusual():
    cases = [*(case(n) for n in range(25)), case(25, spacing=(0.8, 0.8, 10.0))]
    (fault,) = faults("unusual", Cohort(tuple(cases)))
    assert "between slices" in fault.message


def test_small_dataset_has_no_middle_of_its_own():
    assert faults("unusual", Cohort((case(1), case(2, ml={"liver": 1.0})))) == []


def test_mask_that_all_others_have_was_forgotten():
    cases = [case(n, annotated=("liver", "celiac_artery")) for n in range(19)]
    (fault,) = faults("mask-forgotten", Cohort((*cases, case(19))))
    assert (fault.case_id, fault.structure) == ("case_19", "celiac_artery")
    # where the case's own files told already, not again
    assert faults("mask-forgotten", Cohort((*cases, case(19, told_missing=True)))) == []


def test_case_without_a_ct_is_told_and_a_dataset_of_labels_alone_once():
    cases = [case(n, imaged=n > 0) for n in range(3)]
    (fault,) = faults("image-missing", Cohort(tuple(cases)))
    assert (fault.case_id, fault.severity) == ("case_00", None)
    (fault,) = faults("image-missing", Cohort(tuple(replace(c, imaged=False) for c in cases)))
    assert (fault.case_id, fault.value, fault.severity) == ("", 3, "info")


def test_rows_without_cases_are_told_once_and_not_of_a_part_of_the_dataset():
    rows = {"case_00": {}, "case_08": {}, "case_09": {}}
    (fault,) = faults("metadata-orphan", Cohort((case(0),), rows))
    assert "case_08, case_09" in fault.message
    assert faults("metadata-orphan", Cohort((case(0),), rows, partial=True)) == []


def test_share_of_common_slices_is_told_and_a_single_one_is_chance():
    slices = tuple(range(100, 116))
    cases = case(0, voxels_hash="a", slices=slices), case(1, voxels_hash="b", slices=slices[2:])
    (fault,) = faults("duplicate-scan", Cohort(cases))
    assert (fault.case_id, fault.value) == ("case_01", 14 / 16)
    one = case(2, voxels_hash="c", slices=(*range(50, 65), 100))
    assert faults("duplicate-scan", Cohort((cases[0], one))) == []
    # voxel for voxel, told once
    assert len(faults("duplicate-scan", Cohort((cases[0], replace(cases[0], case_id="z"))))) == 1


def test_measured_survives_its_record():
    import json

    one = case(3, hu={"liver": 99.5}, cut=("liver",), voxels_hash="ab", slices=(7, 2**55))
    assert Measured.of_row(json.loads(json.dumps(one.row()))) == one
