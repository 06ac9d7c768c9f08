"""Segmentations of 3D Slicer: layers that overlap, values, and what contradicts itself."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from nrrd_files import write

from pantskit.core.errors import ImageError
from pantskit.core.slicer import is_segmentation, read_segments

LAYERS = np.zeros((2, 5, 4, 3), np.uint8)
LAYERS[0, 1:3, 1:3, :], LAYERS[0, 3, 3, 2] = 1, 2
LAYERS[1, 2:4, 2:4, 1] = 1
SEGMENTS = {
    "Segment0_ID": "Segment_1",
    "Segment0_Name": "Pancreas",
    "Segment0_LabelValue": "1",
    "Segment0_Layer": "0",
    "Segment1_ID": "Segment_2",
    "Segment1_Name": "Left: kidney",
    "Segment1_LabelValue": "2",
    "Segment1_Layer": "0",
    "Segment2_ID": "Segment_3",
    "Segment2_Name": "something",
    "Segment2_LabelValue": "1",
    "Segment2_Layer": "1",
    "Segment2_Tags": (
        "Segmentation.Status:inprogress|TerminologyEntry:Segmentation category and type - 3D "
        "Slicer General Anatomy list~SCT^49755003^Morphologically Altered Structure"
        "~SCT^4147007^Mass~^^~Anatomic codes - DICOM master list~SCT^15776009^Pancreas~^^|"
    ),
}
OF_SEGMENTS = {
    "type": "uchar",
    "endian": "",
    "dimension": "4",
    "sizes": "2 5 4 3",
    "space_directions": "none (0.5,0,0) (0,0.75,0) (0,0,2.5)",
    "kinds": "list domain domain domain",
}


def test_overlapping_segments_come_from_their_own_layers(tmp_path):
    path = write(tmp_path / "a.seg.nrrd", LAYERS.tobytes(order="F"), keys=SEGMENTS, **OF_SEGMENTS)
    assert is_segmentation(path)
    found = read_segments(path)
    assert [s.name for s in found.segments] == ["Pancreas", "Left: kidney", "something"]
    pancreas, kidney, mass = (found.mask(s) for s in found.segments)
    np.testing.assert_array_equal(pancreas, LAYERS[0] == 1)
    np.testing.assert_array_equal(kidney, LAYERS[0] == 2)
    np.testing.assert_array_equal(mass, LAYERS[1] == 1)
    assert (pancreas & mass).any()
    np.testing.assert_allclose(found.geometry.to_world((4, 3, 2)), (-12, -22.25, 35))
    assert found.segments[2].codes == (
        ("SCT", "49755003"),
        ("SCT", "4147007"),
        ("", ""),
        ("SCT", "15776009"),
        ("", ""),
    )
    assert not is_segmentation(write(tmp_path / "ct.nrrd"))


def test_segments_of_one_layer_are_told_by_value(tmp_path):
    keys = {k: v for k, v in SEGMENTS.items() if not k.startswith("Segment2")}
    fields = {"type": "uchar", "endian": "", "encoding": "gzip"}
    data = gzip.compress(LAYERS[0].tobytes(order="F"))
    found = read_segments(write(tmp_path / "a.seg.nrrd", data, keys=keys, **fields))
    np.testing.assert_array_equal(found.mask(found.segments[1]), LAYERS[0] == 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Segment2_Layer": "2"}, "the file has 2 layers"),
        ({"Segment2_Layer": "-1"}, "the file has 2 layers"),
        ({"Segment2_LabelValue": "0"}, "0 is background"),
        ({"Segment2_LabelValue": "one"}, "no integer"),
        ({"Segment1_LabelValue": "1"}, "one value in one layer"),
        ({"Segmentation_SourceRepresentation": "Fractional labelmap"}, "no binary labelmap"),
    ],
)
def test_segments_that_contradict_themselves_are_refused(tmp_path, change, said):
    data = LAYERS.tobytes(order="F")
    path = write(tmp_path / "a.seg.nrrd", data, keys=SEGMENTS | change, **OF_SEGMENTS)
    with pytest.raises(ImageError, match=said):
        read_segments(path)


def test_segmentation_without_segments_or_voxels_is_refused(tmp_path):
    with pytest.raises(ImageError, match="names no segments"):
        read_segments(write(tmp_path / "a.nrrd"))
    fields = {"type": "uchar", "endian": "", "sizes": "1 1 1"}
    with pytest.raises(ImageError, match="without any voxel"):
        read_segments(write(tmp_path / "b.seg.nrrd", b"\0", keys=SEGMENTS, **fields))
