"""NRRD images: their place in the patient, their encodings, forged headers."""

from __future__ import annotations

import bz2
import gzip

import numpy as np
import pytest
import SimpleITK
from nrrd_files import VALUES, write

from pantskit.core.errors import GeometryError, ImageError
from pantskit.core.nrrd import files_of_volume, read_fields, read_nrrd
from pantskit.core.volume import read_volume


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


def test_the_files_of_a_volume_are_those_its_voxels_are_in(tmp_path):
    header = write(tmp_path / "ct.nhdr", b"", data_file="ct.raw")
    assert files_of_volume(header) == (header,)  # what is not there is no file of it
    (tmp_path / "ct.raw").write_bytes(VALUES.tobytes(order="F"))
    assert files_of_volume(header) == (header, tmp_path / "ct.raw")
    whole = write(tmp_path / "whole.nrrd")
    assert files_of_volume(whole) == (whole,)
    assert files_of_volume(tmp_path / "ct.nii.gz") == (tmp_path / "ct.nii.gz",)


def test_a_key_may_hold_what_ends_a_line_elsewhere(tmp_path):
    path = write(tmp_path / "a.nrrd", keys={"Segment0_Name": "left\x85right\u2028\x0bend"})
    assert read_fields(path)[1] == {"Segment0_Name": "left\x85right\u2028\x0bend"}
    np.testing.assert_array_equal(read_nrrd(path).array, VALUES)
