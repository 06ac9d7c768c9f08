"""DICOM segmentations: what is in which segment, where it is, whose it is, and what is forged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from label_objects import ORGAN, SOURCE, save, segment, segmentation
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from pantskit.core.dataset import Dataset
from pantskit.core.errors import GeometryError, ImageError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LabelMap
from pantskit.core.volume import Volume
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.labels.casemasks import CaseMasks
from pantskit.ingest.labels.masks import onto_grid
from pantskit.ingest.labels.planes import Planes, Scan
from pantskit.ingest.labels.segmentations import read_segmentation

LIVER, KIDNEY = Code("10200004", "SCT", "Liver"), Code("64033007", "SCT", "Kidney")
PANCREAS, NEOPLASM = Code("15776009", "SCT", "Pancreas"), Code("108369006", "SCT", "Neoplasm")
LEFT = Code("7771000", "SCT", "Left")

MASKS = np.zeros((5, 6, 8, 3), np.uint8)  # slices, rows, columns, segments
MASKS[0:3, 1:4, 1:5, 0] = 1
MASKS[2:4, 2:6, 3:7, 1] = 1  # overlaps the first, and leaves out slices 0, 1 and 4
MASKS[1, 5, 0, 2] = 1
SEGMENTS = [
    segment(1, "liver"),
    segment(2, "Segment_2", NEOPLASM, region=PANCREAS),
    segment(3, "Segment_3", KIDNEY, side=LEFT),
]


def scan_of(made: Any, geometry: Geometry | None = None) -> Scan:
    """The CT that a made series is, with truth from its own numbers."""
    images = [made.dataset(k) for k in range(len(made.stored))]
    rows, columns = made.stored.shape[1:]
    planes = Planes.at(
        made.positions, [*made.row, *made.column], made.pixel_spacing, rows=rows, columns=columns
    )
    return Scan(
        planes,
        geometry or grid_of(made),
        frozenset({made.uid}),
        frozenset(i.SOPInstanceUID for i in images),
        frozenset({SOURCE["FrameOfReferenceUID"]}),
    )


def grid_of(made: Any) -> Geometry:
    """(columns, rows, slices), from DICOM's definition of a pixel's place (PS3.3 C.7.6.2.1.1)."""
    to_ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, 0] = to_ras @ np.array(made.row) * made.pixel_spacing[1]
    affine[:3, 1] = to_ras @ np.array(made.column) * made.pixel_spacing[0]
    affine[:3, 2] = to_ras @ (made.positions[1] - made.positions[0])
    affine[:3, 3] = to_ras @ made.positions[0]
    rows, columns = made.stored.shape[1:]
    return Geometry((columns, rows, len(made.stored)), affine)


def images_of(made: Any) -> list[Any]:
    return [made.dataset(k) for k in range(len(made.stored))]


def read(made: Any, scan: Scan, folder: Path, label_map: str | None = None) -> CaseMasks:
    path = save(made, folder / "seg.dcm")
    parsed = LabelMap.parse(label_map) if label_map else None
    with Reader() as reader:
        return read_segmentation(SourceFile(path), scan, parsed, reader)


def ijk(mask: np.ndarray) -> np.ndarray:
    """(slices, rows, columns) as (columns, rows, slices)."""
    return mask.transpose(2, 1, 0).astype(bool)


@pytest.fixture
def ct(series):
    return series(attributes=dict(SOURCE))


def test_overlapping_segments_keep_all_their_voxels(ct, tmp_path):
    found = read(segmentation(images_of(ct), MASKS, SEGMENTS), scan_of(ct), tmp_path)
    assert found.coded.structures == ("kidney_left", "liver", "pancreatic_lesion")
    for n, structure in enumerate(("liver", "pancreatic_lesion", "kidney_left")):
        np.testing.assert_array_equal(found.coded.mask(structure), ijk(MASKS[..., n]))
    # Rows 2, 3 x columns 3, 4 of slice 2 are in both.
    assert (
        ijk(MASKS[..., 0]) & ijk(MASKS[..., 1])
    ).sum() == 4  # rows 2, 3 x columns 3, 4 of slice 2
    assert found.geometry.same_grid(grid_of(ct))


def test_segmentation_is_found_beside_its_ct_and_written_as_masks(ct, run, tmp_path):
    ct.write(tmp_path / "in" / "ct")
    save(segmentation(images_of(ct), MASKS, SEGMENTS), tmp_path / "in" / "other" / "s.dcm")
    result = run(tmp_path / "in", labels=tmp_path / "in")
    assert result.statuses == ["done"]
    labels = result.data["labels"]
    assert labels["voxels"]["pancreatic_lesion"] == 32
    assert labels["sources"]["kidney_left"] == ["segment 3"]
    case = Dataset.open(result.out).cases()[0].labels()
    written = Volume(case.mask("liver"), case.geometry).reoriented(grid_of(ct).orientation)
    np.testing.assert_array_equal(written.array, ijk(MASKS[..., 0]))


def test_segmentation_without_the_option_is_skipped_with_the_mend(ct, run, tmp_path):
    save(segmentation(images_of(ct), MASKS, SEGMENTS), tmp_path / "in" / "s.dcm")
    (record,) = run(tmp_path / "in").summary.run.records
    assert (record.status, "--labels" in record.message) == ("skipped", True)


def test_a_voxel_is_in_a_fractional_segment_from_half_of_the_maximum_on(ct, tmp_path):
    shares = np.zeros((5, 6, 8))
    shares[1, 2, :] = np.array([0, 1, 126, 127, 128, 200, 254, 255]) / 255
    for kind in ("PROBABILITY", "OCCUPANCY"):
        made = segmentation(
            images_of(ct),
            shares,
            [segment(1, "liver")],
            kind="FRACTIONAL",
            max_fractional_value=255,
            fractional_type=kind,
        )
        found = read(made, scan_of(ct), tmp_path)
        inside = found.coded.mask("liver")[:, 2, 1]
        assert inside.tolist() == [False] * 4 + [True] * 4
        assert found.coded.counts == {"liver": 4}
        assert "inside from 0.5 of the maximum" in found.faults[0]


def test_label_map_segmentation_gives_a_mask_a_label(ct, tmp_path):
    labels = np.zeros((5, 6, 8), np.uint8)
    labels[1:3, 2:4, 1:4], labels[4, 0, 0] = 1, 2
    segments = [segment(1, "Spleen"), segment(2, "nothing of ours"), segment(3, "stomach")]
    made = segmentation(images_of(ct), labels, segments, kind="LABELMAP")
    found = read(made, scan_of(ct), tmp_path)
    np.testing.assert_array_equal(found.coded.mask("spleen"), ijk(labels == 1))
    assert found.empty == ["stomach"]
    assert found.unmapped == ["segment 2"]


def test_frames_whose_bits_begin_within_a_byte_are_read(series, tmp_path):
    stored = np.random.default_rng(1).integers(0, 2000, (4, 5, 7), dtype=np.uint16)
    made = series(stored=stored, attributes=dict(SOURCE))
    masks = np.random.default_rng(2).integers(0, 2, (4, 5, 7, 2), dtype=np.uint8)
    segments = [segment(1, "liver"), segment(2, "spleen")]
    found = read(segmentation(images_of(made), masks, segments), scan_of(made), tmp_path)
    for n, structure in enumerate(("liver", "spleen")):
        np.testing.assert_array_equal(found.coded.mask(structure), ijk(masks[..., n]))


def test_compressed_frames_are_read(series, tmp_path):
    stored = np.random.default_rng(1).integers(0, 2000, (4, 32, 40), dtype=np.uint16)
    ct = series(stored=stored, attributes=dict(SOURCE))
    shares = np.zeros(stored.shape)
    shares[1:3, 2:5, 1:7] = 1.0
    for syntax in ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"):
        made = segmentation(
            images_of(ct),
            shares,
            [segment(1, "liver")],
            kind="FRACTIONAL",
            max_fractional_value=255,
            transfer_syntax_uid=syntax,
        )
        found = read(made, scan_of(ct), tmp_path)
        np.testing.assert_array_equal(found.coded.mask("liver"), ijk(shares))


def test_oblique_ct_takes_its_segmentation_slice_by_slice(series, tmp_path):
    turn = np.deg2rad(20)
    made = series(
        row=(float(np.cos(turn)), float(np.sin(turn)), 0.0),
        column=(0.0, 0.0, -1.0),
        attributes=dict(SOURCE),
    )
    found = read(segmentation(images_of(made), MASKS, SEGMENTS), scan_of(made), tmp_path)
    np.testing.assert_array_equal(found.coded.mask("liver"), ijk(MASKS[..., 0]))
    assert found.geometry.same_grid(grid_of(made))


def test_slices_without_a_regular_grid_keep_their_labels_for_the_resampled_ct(series, tmp_path):
    made = series(attributes=dict(SOURCE))
    made.positions += np.outer(np.arange(5), (0, 0.9, 0))  # a tilted gantry
    made.positions[4, 2] += 1.5
    scan = scan_of(made)
    scan = Scan(scan.planes, None, scan.series, scan.instances, scan.frames)
    found = read(segmentation(images_of(made), MASKS, SEGMENTS), scan, tmp_path)
    assert found.geometry is None
    np.testing.assert_array_equal(found.coded.mask("liver"), ijk(MASKS[..., 0]))
    ct = Geometry.from_spacing((8, 6, 10), (0.5, 0.75, 1.25))
    with pytest.raises(GeometryError, match="no regular grid"):
        onto_grid(copy.deepcopy(found), ct, case_id="x", resample=True)
    record = onto_grid(
        found, ct, case_id="x", resample=False, follow=lambda codes: np.repeat(codes, 2, axis=2)
    )
    assert record["before"]["liver"] * 2 == record["after"]["liver"] == 72
    assert found.geometry is ct


def mirrored(ct: Any, series: Any) -> Any:
    """The same slices as another tool may store them: columns and slices from the other end."""
    other = series(stored=ct.stored, attributes=dict(SOURCE), uid=ct.uid, row=(-1.0, 0.0, 0.0))
    other.positions = ct.positions[::-1] + np.array([7 * 0.5, 0, 0])
    return other


def test_frames_stored_from_the_other_side_fall_on_the_same_voxels(ct, series, tmp_path):
    other = mirrored(ct, series)
    made = segmentation(images_of(other)[1:4], MASKS[::-1, :, ::-1][1:4], SEGMENTS)
    made.ReferencedSeriesSequence[0].ReferencedInstanceSequence = []
    found = read(made, scan_of(ct), tmp_path)
    target = grid_of(ct).reoriented()
    assert onto_grid(found, target, case_id="x", resample=False) == {}
    expected = MASKS[..., 0].copy()
    expected[[0, 4]] = 0  # the frames of the first and last slice were not in the object
    back = Volume(found.coded.mask("liver"), target).reoriented(grid_of(ct).orientation)
    np.testing.assert_array_equal(back.array, ijk(expected))


def test_frames_off_the_slices_are_refused_and_resampled_on_request(ct, series, tmp_path):
    other = series(stored=ct.stored, attributes=dict(SOURCE), uid=ct.uid)
    other.positions = ct.positions + np.array([0, 0, 0.6])
    made = segmentation(images_of(other), MASKS, SEGMENTS)
    found = read(made, scan_of(ct), tmp_path)
    target = grid_of(ct).reoriented()
    with pytest.raises(GeometryError, match="different grids"):
        onto_grid(copy.deepcopy(found), target, case_id="x", resample=False)
    record = onto_grid(found, target, case_id="x", resample=True)
    # 0.6 mm of 2.5 mm slices: every slice takes the frame above it that is nearer.
    assert record["before"] == record["after"]
    assert record["outside"] == 0
    assert record["from"].startswith("(8, 6, 4) at (0.5, 0.75, 2.5)")
    back = Volume(found.coded.mask("liver"), target).reoriented(grid_of(ct).orientation)
    np.testing.assert_array_equal(back.array, ijk(MASKS[..., 0]))


def test_a_single_frame_off_the_slices_tells_no_grid(ct, series, tmp_path):
    other = series(stored=ct.stored, attributes=dict(SOURCE), uid=ct.uid)
    other.positions = ct.positions + np.array([0, 0, 0.6])
    made = segmentation(images_of(other)[:1], MASKS[:1], SEGMENTS)
    with pytest.raises(GeometryError, match="lies on none of the CT's"):
        read(made, scan_of(ct), tmp_path)


def test_segmentation_of_another_ct_is_refused_in_words(ct, series, tmp_path):
    made = segmentation(images_of(ct), MASKS, SEGMENTS)
    scan = scan_of(ct)
    other = series(attributes=dict(SOURCE), uid=generate_uid())
    with pytest.raises(LabelError, match="refers to another series than this CT"):
        read(made, scan_of(other), tmp_path)
    short = Scan(
        scan.planes, scan.geometry, scan.series, frozenset(sorted(scan.instances)[:3]), scan.frames
    )
    with pytest.raises(LabelError, match="refers to 2 of 5 slices that the CT does not have"):
        read(made, short, tmp_path)
    moved = Scan(
        scan.planes, scan.geometry, scan.series, scan.instances, frozenset({generate_uid()})
    )
    with pytest.raises(LabelError, match="another frame of reference"):
        read(made, moved, tmp_path)


def forged(made: Any, change: Any) -> Any:
    other = copy.deepcopy(made)
    change(other)
    return other


def _first_frame_again(made: Any) -> None:
    frames = made.PerFrameFunctionalGroupsSequence
    frames[1].PlanePositionSequence = copy.deepcopy(frames[0].PlanePositionSequence)


def _undescribed(made: Any) -> None:
    made.SegmentSequence = made.SegmentSequence[:1]


def _nowhere(made: Any) -> None:
    del made.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def _not_finite(made: Any) -> None:
    place = made.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    place.ImagePositionPatient = [0, 0, 1e30]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda m: setattr(m, "NumberOfFrames", 2**31 - 1), ImageError, "describes 6"),
        (lambda m: setattr(m, "Rows", 65535), ImageError, "bytes of pixels"),
        (lambda m: setattr(m, "PixelData", m.PixelData[:10]), ImageError, "bytes of pixels"),
        (lambda m: delattr(m, "PixelData"), ImageError, "without pixels"),
        (lambda m: setattr(m, "BitsAllocated", 32), ImageError, "32 bits a pixel"),
        (lambda m: setattr(m, "SegmentationType", "SURFACE"), ImageError, "neither binary"),
        (lambda m: setattr(m, "TotalPixelMatrixColumns", 9), ImageError, "tiled"),
        (lambda m: delattr(m, "PerFrameFunctionalGroupsSequence"), ImageError, "describes 0"),
        (_first_frame_again, LabelError, "two frames at one place"),
        (_undescribed, LabelError, r"segments \[2, 3\], which nothing describes"),
        (_nowhere, GeometryError, "does not say where it is"),
        (_not_finite, GeometryError, "no plausible numbers"),
    ],
)
def test_what_a_segmentation_forges_about_itself_ends_as_an_error(
    ct, tmp_path, change, error, said
):
    made = pydicom.dcmread(save(segmentation(images_of(ct), MASKS, SEGMENTS), tmp_path / "a.dcm"))
    with pytest.raises(error, match=said):
        read(forged(made, change), scan_of(ct), tmp_path)


def test_every_cut_of_a_segmentation_is_an_error_of_ours(ct, tmp_path):
    path = save(segmentation(images_of(ct), MASKS, SEGMENTS), tmp_path / "a.dcm")
    whole = path.read_bytes()
    for size in range(0, len(whole) - 2, 211):
        path.write_bytes(whole[:size])
        with Reader() as reader, pytest.raises((ImageError, LabelError, GeometryError)):
            read_segmentation(SourceFile(path), scan_of(ct), None, reader)


@pytest.mark.parametrize(
    ("described", "structure"),
    [
        (segment(1, "anything", LIVER), "liver"),
        (segment(1, "Leber", ORGAN), "liver"),
        (segment(1, "anything", KIDNEY, side=LEFT), "kidney_left"),
        (segment(1, "anything", Code("T-65000", "SRT", "Pancreas")), "pancreas"),
        (segment(1, "anything", Code("T-65000", "SNM3", "Pancreas")), "pancreas"),
        (segment(1, "anything", NEOPLASM, region=PANCREAS), "pancreatic_lesion"),
        (segment(1, "anything", NEOPLASM, region=LIVER), "liver"),
        (segment(1, "anything", NEOPLASM, region=KIDNEY, side=LEFT), "kidney_left"),
    ],
)
def test_segments_are_named_by_label_then_by_code(ct, tmp_path, described, structure):
    found = read(segmentation(images_of(ct), MASKS[..., :1], [described]), scan_of(ct), tmp_path)
    # A lesion makes no pancreas here: that is for the case's masks together.
    assert found.coded.structures == (structure,)


@pytest.mark.parametrize(
    "described",
    [segment(2, "anything", KIDNEY), segment(2, "tumor", NEOPLASM), segment(2, "Ludmilla Q")],
)
def test_what_has_no_clear_place_is_listed_and_not_guessed(ct, tmp_path, described):
    made = segmentation(images_of(ct), MASKS[..., :2], [segment(1, "liver"), described])
    found = read(made, scan_of(ct), tmp_path)
    assert found.coded.structures == ("liver",)
    expected = "segment 2 (tumor)" if described.SegmentLabel == "tumor" else "segment 2"
    assert found.unmapped == [expected]


def test_label_map_decides_by_segment_number_and_contradictions_are_refused(ct, tmp_path):
    made = segmentation(images_of(ct), MASKS, SEGMENTS)
    with pytest.raises(LabelError, match="label map says spleen and its own name liver"):
        read(made, scan_of(ct), tmp_path, "1=spleen,2=stomach,3=colon")
    with pytest.raises(LabelError, match=r"labels \[3\] are not in the label map"):
        read(made, scan_of(ct), tmp_path, "1=liver,2=stomach")
    found = read(made, scan_of(ct), tmp_path, "1=liver,2=stomach,3=colon")
    assert found.coded.structures == ("colon", "liver", "stomach")
    twisted = segmentation(images_of(ct), MASKS[..., :1], [segment(1, "spleen", LIVER)])
    with pytest.raises(LabelError, match="its name says spleen and its codes liver"):
        read(twisted, scan_of(ct), tmp_path)


def test_segments_of_no_structure_at_all_are_refused(ct, tmp_path):
    made = segmentation(images_of(ct), MASKS[..., :1], [segment(1, "bone")])
    with pytest.raises(LabelError, match="none of the 1 segments is one of the 28"):
        read(made, scan_of(ct), tmp_path)


def test_segmentations_of_one_ct_are_united_unless_they_differ(ct, run, tmp_path):
    ct.write(tmp_path / "in")
    images = images_of(ct)
    one = segmentation(images, MASKS[..., :1], [segment(1, "liver")])
    two = segmentation(images, MASKS[..., 1:2], [segment(1, "spleen")])
    save(one, tmp_path / "seg" / "1.dcm")
    save(two, tmp_path / "seg" / "2.dcm")
    result = run(tmp_path / "in", labels=tmp_path / "seg")
    assert result.data["labels"]["voxels"] == {"liver": 36, "spleen": 32}
    assert result.summary.unused_labels == ()
    save(segmentation(images, MASKS[..., 1:2], [segment(1, "Leber")]), tmp_path / "seg" / "3.dcm")
    result = run(tmp_path / "in", labels=tmp_path / "seg")
    assert "two annotations of this CT hold liver and differ" in result.message
    assert result.files == []


def test_segmentations_find_their_ct_among_several_by_what_they_refer_to(series, run, tmp_path):
    for n in range(2):
        stored = np.random.default_rng(n).integers(0, 2048, (5, 6, 8), dtype=np.uint16)
        made = series(stored=stored, attributes=dict(SOURCE), uid=generate_uid())
        made.write(tmp_path / "in" / f"{n}")
        masks = np.roll(MASKS[..., :1], n, axis=0)[: 5 - n]
        made = segmentation(images_of(made)[: 5 - n], masks, [segment(1, "liver")])
        save(made, tmp_path / "labels" / f"{1 - n}" / "seg.dcm")
    result = run(tmp_path / "in", labels=tmp_path / "labels")
    assert result.statuses == ["done", "done"]
    for case_id, item in result.summary.planned.items():
        case = Dataset.open(result.out).case(case_id)
        k = np.flatnonzero(case.labels().mask("liver").any(axis=(0, 1)))
        # LAI: from the top down; the second CT's liver is a slice higher.
        assert k.tolist() == ([2, 3, 4] if "/0 " in item.place else [1, 2, 3])


def test_real_highdicom_segmentations_give_the_pixels_that_highdicom_reads(shared_data):
    for name in ("binary", "binary_overlap", "binary_fractional"):
        path = shared_data / "dicom" / "seg" / f"seg_image_ct_{name}.dcm"
        theirs = highdicom.seg.segread(path)
        volume = theirs.get_volume(combine_segments=False, rescale_fractional=True)
        numbers = [int(s.SegmentNumber) for s in theirs.SegmentSequence]
        scan = scan_of_segmentation(theirs, volume)
        label_map = LabelMap.parse(
            ",".join(f"{n}={s}" for n, s in zip(numbers, ("liver", "spleen"), strict=False))
        )
        with Reader() as reader:
            found = read_segmentation(SourceFile(path), scan, label_map, reader)
        for n, structure in zip(range(len(numbers)), ("liver", "spleen"), strict=False):
            expected = volume.array[..., n] >= 0.5
            assert expected.any()
            np.testing.assert_array_equal(found.coded.mask(structure), ijk(expected))


def scan_of_segmentation(theirs: Any, volume: Any) -> Scan:
    """A CT whose slices are where highdicom places those of a segmentation."""
    positions = [p[0].ImagePositionPatient for p in volume.get_plane_positions()]
    orientation = volume.get_plane_orientation()[0].ImageOrientationPatient
    spacing = volume.get_pixel_measures()[0].PixelSpacing
    rows, columns = volume.spatial_shape[1:]
    planes = Planes.at(positions, orientation, spacing, rows=rows, columns=columns)
    series = theirs.ReferencedSeriesSequence[0]
    return Scan(
        planes,
        None,
        frozenset({series.SeriesInstanceUID}),
        frozenset(i.ReferencedSOPInstanceUID for i in series.ReferencedInstanceSequence),
        frozenset({theirs.FrameOfReferenceUID}),
    )


def test_real_dcmqi_segmentation_with_older_codes_gives_its_pixels(shared_data):
    path = shared_data / "dicom" / "seg" / "liver.dcm"
    theirs = pydicom.dcmread(path)
    frames = theirs.PerFrameFunctionalGroupsSequence
    positions = [f.PlanePositionSequence[0].ImagePositionPatient for f in frames]
    series = theirs.ReferencedSeriesSequence[0]
    planes = Planes.at(positions, [1, 0, 0, 0, 1, 0], (0.810547, 0.810547), rows=512, columns=512)
    scan = Scan(
        planes,
        None,
        frozenset({series.SeriesInstanceUID}),
        frozenset(i.ReferencedSOPInstanceUID for i in series.ReferencedInstanceSequence),
        frozenset({theirs.FrameOfReferenceUID}),
    )
    with Reader() as reader:
        found = read_segmentation(SourceFile(path), scan, None, reader)
    pixels = theirs.pixel_array
    assert pixels.any()
    np.testing.assert_array_equal(found.coded.mask("liver"), ijk(pixels))
