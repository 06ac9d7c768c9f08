"""NRRD images: their place in the patient, their encodings, Slicer's segments, forged headers."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from pantskit.core.errors import GeometryError, ImageError
from pantskit.core.nrrd import is_segmentation, read_nrrd, read_segments
from pantskit.core.volume import Volume, read_volume

VALUES = np.random.default_rng(3).integers(-1000, 1000, (5, 4, 3), dtype=np.int16)

HEADER = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "5 4 3",
    "space directions": "(0.5,0,0) (0,0.75,0) (0,0,2.5)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(10,20,30)",
}


def write(
    path: Path, data: bytes | None = None, *, keys: dict[str, str] | None = None, **fields: str
) -> Path:
    """A NRRD file with HEADER's fields but for those given; "" leaves one out."""
    header = HEADER | {name.replace("_", " "): value for name, value in fields.items()}
    lines = ["NRRD0005", "# a comment", *(f"{n}: {v}" for n, v in header.items() if v)]
    lines += [f"{key}:={value}" for key, value in (keys or {}).items()]
    body = VALUES.tobytes(order="F") if data is None else data
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + body)
    return path


def image(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Values and positions (RAS+ mm) of all voxels, ordered by position."""
    index = np.indices(volume.array.shape).reshape(3, -1).T
    places = np.round(volume.geometry.to_world(index), 6)
    order = np.lexsort(places.T)
    return volume.array.reshape(-1)[order], places[order]


def test_lps_header_places_voxels_in_ras(tmp_path):
    volume = read_nrrd(write(tmp_path / "ct.nrrd"))
    np.testing.assert_array_equal(volume.array, VALUES)
    np.testing.assert_allclose(volume.geometry.to_world((0, 0, 0)), (-10, -20, 30))
    np.testing.assert_allclose(volume.geometry.to_world((4, 3, 2)), (-12, -22.25, 35))
    assert volume.geometry.orientation == "LPS"


@pytest.mark.parametrize(
    ("space", "first"),
    [
        ("right-anterior-superior", (10, 20, 30)),
        ("RAS", (10, 20, 30)),
        ("left-anterior-superior", (-10, 20, 30)),
        ("LPS", (-10, -20, 30)),
    ],
)
def test_every_named_space_is_turned_to_ras(tmp_path, space, first):
    volume = read_nrrd(write(tmp_path / "ct.nrrd", space=space))
    np.testing.assert_allclose(volume.geometry.to_world((0, 0, 0)), first)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.float32])
def test_oblique_image_equals_simpleitk_writing_nifti(tmp_path, dtype, compress):
    made = SimpleITK.GetImageFromArray(VALUES.T.astype(dtype))
    made.SetSpacing((0.8, 0.9, 2.5))
    made.SetOrigin((-30.5, 12.25, 900))
    turn = SimpleITK.VersorTransform((0.36, 0.48, 0.8), 0.4)
    made.SetDirection(turn.GetMatrix())
    SimpleITK.WriteImage(made, tmp_path / "ct.nrrd", useCompression=compress)
    SimpleITK.WriteImage(made, tmp_path / "ct.nii.gz")
    ours, theirs = read_nrrd(tmp_path / "ct.nrrd"), read_volume(tmp_path / "ct.nii.gz")
    assert ours.array.dtype == dtype
    np.testing.assert_array_equal(ours.array, theirs.array)
    assert ours.geometry.distance_mm(theirs.geometry) < 1e-3


def test_encodings_hold_the_same_voxels(tmp_path):
    raw = VALUES.tobytes(order="F")
    for encoding, data in (("gzip", gzip.compress(raw)), ("bzip2", bz2.compress(raw))):
        volume = read_nrrd(write(tmp_path / f"{encoding}.nrrd", data, encoding=encoding))
        np.testing.assert_array_equal(volume.array, VALUES)
    swapped = VALUES.byteswap().tobytes(order="F")
    volume = read_nrrd(write(tmp_path / "big.nrrd", swapped, endian="big"))
    np.testing.assert_array_equal(volume.array, VALUES)
    assert volume.array.dtype.isnative


def test_bytes_before_the_voxels_are_skipped_and_bytes_after_are_told(tmp_path):
    raw = VALUES.tobytes(order="F")
    volume = read_nrrd(write(tmp_path / "a.nrrd", b"abc" + raw + b"x", byte_skip="3"))
    np.testing.assert_array_equal(volume.array, VALUES)
    assert volume.faults == ("data follows the end of the image and was not read",)
    volume = read_nrrd(write(tmp_path / "b.nrrd", b"anything" + raw, byte_skip="-1"))
    np.testing.assert_array_equal(volume.array, VALUES)
    assert volume.faults == ()


def test_detached_header_reads_a_file_of_its_own_folder_only(tmp_path):
    (tmp_path / "in").mkdir()
    for place in (tmp_path / "in", tmp_path):
        (place / "voxels.raw").write_bytes(VALUES.tobytes(order="F"))
    volume = read_nrrd(write(tmp_path / "in" / "ct.nhdr", b"", data_file="voxels.raw"))
    np.testing.assert_array_equal(volume.array, VALUES)
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "voxels.raw")
    for name in (
        "../voxels.raw",
        str(tmp_path / "voxels.raw"),
        "link.raw",
        "..",
        "LIST",
        "v%d.raw",
    ):
        with pytest.raises(ImageError, match="same folder"):
            read_nrrd(write(tmp_path / "in" / "ct.nhdr", b"", data_file=name))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"space": ""}, "place in the patient is unknown"),
        ({"space": "scanner-xyz"}, "place in the patient is unknown"),
        ({"space_origin": ""}, "place in the patient is unknown"),
        ({"space_directions": "", "spacings": "1 1 1"}, "place in the patient is unknown"),
        ({"space_directions": "(1,0,0) (0.2,1,0) (0,0,1)"}, "not perpendicular"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0,0.001)"}, "outside"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0,0)"}, "singular"),
    ],
)
def test_a_place_in_doubt_is_refused(tmp_path, fields, said):
    with pytest.raises(GeometryError, match=said):
        read_nrrd(write(tmp_path / "ct.nrrd", **fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dimension": "4"}, "impossible dimensions"),
        ({"sizes": "5 4 0"}, "impossible dimensions"),
        ({"sizes": "5 4 three"}, "damaged NRRD header"),
        ({"type": "block"}, "not plain numbers"),
        ({"encoding": "hex"}, "encoding"),
        ({"endian": ""}, "damaged NRRD header"),
        ({"line_skip": "2"}, "skips lines"),
        ({"byte_skip": "-7"}, "byte skip"),
        ({"space_origin": "(1,2)"}, "damaged NRRD header"),
        ({"space_directions": "(1,0,0) (0,1,0)"}, "expected"),
        (
            {
                "dimension": "4",
                "sizes": "1 5 4 3",
                "space_directions": "none (1,0,0) (0,1,0) (0,0,1)",
                "kinds": "list domain domain domain",
            },
            "one 3D volume is expected",
        ),
    ],
)
def test_what_is_no_plain_3d_image_is_refused(tmp_path, fields, said):
    with pytest.raises(ImageError, match=said):
        read_nrrd(write(tmp_path / "ct.nrrd", **fields))


def test_files_that_are_no_nrrd_are_refused(tmp_path):
    for n, content in enumerate((b"", b"NRRD", b"NRRD0009\n\n", b"NRRD0004 x\n", b"\x1f\x8b" * 9)):
        (tmp_path / f"{n}.nrrd").write_bytes(content)
        with pytest.raises(ImageError, match="not a NRRD image"):
            read_nrrd(tmp_path / f"{n}.nrrd")
    with pytest.raises(ImageError, match="no such file"):
        read_nrrd(tmp_path / "none.nrrd")
    (tmp_path / "twice.nrrd").write_bytes(b"NRRD0005\nsizes: 1 1 1\nsizes: 2 2 2\n\n")
    with pytest.raises(ImageError, match="a line twice"):
        read_nrrd(tmp_path / "twice.nrrd")
    (tmp_path / "endless.nrrd").write_bytes(b"NRRD0005\n" + b"#" * (5 << 20))
    with pytest.raises(ImageError, match="without an end"):
        read_nrrd(tmp_path / "endless.nrrd")


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_header_that_promises_more_than_the_file_holds_costs_no_memory(tmp_path, encoding):
    pack = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[encoding]
    data = pack(bytes(1000))
    path = write(tmp_path / "bomb.nrrd", data, encoding=encoding, sizes="99999 99999 99999")
    with pytest.raises(ImageError, match="cut short or forged"):
        read_nrrd(path)
    path = write(tmp_path / "short.nrrd", data, encoding=encoding, sizes="10 10 6")
    with pytest.raises(ImageError, match="cut short"):
        read_nrrd(path)


def test_damaged_compressed_data_is_refused(tmp_path):
    packed = bytearray(gzip.compress(VALUES.tobytes(order="F")))
    packed[20:40] = b"\xff" * 20
    with pytest.raises(ImageError, match=r"damaged gzip|cut short"):
        read_nrrd(write(tmp_path / "ct.nrrd", bytes(packed), encoding="gzip"))


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
