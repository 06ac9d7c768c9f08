"""Rules on labels of real patients: no error but where there is one."""

from __future__ import annotations

import pytest

from pantskit.check.case import check_arrays
from pantskit.core.labels import LabelMap
from pantskit.core.labelsets import CaseLabels
from pantskit.core.volume import read_volume


def labels_of(path, label_map):
    return CaseLabels("case", map_path=path, label_map=LabelMap.parse(label_map))


def errors(labels, ct=None):
    found = check_arrays(labels.masks(), labels.geometry, ct=ct)
    return {f.rule for f in found if f.severity == "error"}


def test_labels_of_another_slab_with_the_same_affine_are_caught_by_content(shared_data):
    folder = shared_data / "totalsegmentator"
    labels = labels_of(folder / "example_seg.nii.gz", "totalsegmentator")
    ct = read_volume(folder / "example_ct.nii.gz")
    assert (ct.geometry.affine == labels.geometry.affine).all()
    lowest = ct.array[:, :, : labels.geometry.shape[2]]
    assert errors(labels, lowest) == {"other-ct"}


@pytest.mark.parametrize(
    ("labels", "ct"),
    [
        ("example_seg", "example_ct_sm"),
        ("example_seg_fast", "example_ct_sm"),
        ("example_seg_fast_force_split", "example_ct"),
    ],
)
def test_labels_of_a_network_on_their_own_ct_have_no_errors(shared_data, labels, ct):
    folder = shared_data / "totalsegmentator"
    found = labels_of(folder / f"{labels}.nii.gz", "totalsegmentator")
    assert errors(found, read_volume(folder / f"{ct}.nii.gz").array) == set()


@pytest.mark.slow
def test_labels_of_panorama_have_no_errors(shared_data):
    for path in sorted((shared_data / "panorama_labels").glob("*.nii.gz")):
        assert errors(labels_of(path, "panorama")) == set()
