"""RT structure sets: what contours enclose, on which slices, of which CT."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from label_objects import SOURCE, save, structure_set
from matplotlib.path import Path as Polygon
from pydicom.uid import generate_uid

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ImageError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LabelMap
from pantskit.core.volume import Volume
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.labels import rtstruct
from pantskit.ingest.labels.casemasks import CaseMasks
from pantskit.ingest.labels.contours import fill
from pantskit.ingest.labels.planes import Planes, Scan
from pantskit.ingest.labels.rtstruct import read_structure_set

EXACT = (1e-9, 1e-9)


def edge_distance(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Of each point from the nearest edge."""
    distance = np.full(len(points), np.inf)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        along = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(points - a - np.outer(along, b - a), axis=1))
    return distance


def test_random_polygons_hold_the_centres_that_matplotlib_says():
    shape = (23, 17)
    centres = np.argwhere(np.ones(shape))
    random = np.random.default_rng(5)
    near = 0
    for trial in range(300):
        polygon = random.uniform(-4, 26, (random.integers(3, 30), 2))
        if trial % 3 == 0:  # corners and edges on centres and halfway between them
            polygon = np.round(polygon * 2) / 2
        inside, _ = fill([polygon], shape, EXACT)
        on_edge = edge_distance(centres, polygon) < 1e-6
        expected = Polygon(polygon).contains_points(centres)
        np.testing.assert_array_equal(inside.ravel()[~on_edge], expected[~on_edge])
        assert inside.ravel()[on_edge].all()  # DICOM counts the path as inside
        near += int(on_edge.sum())
    assert near > 500


def square(low: float, high: float) -> np.ndarray:
    return np.array([[low, low], [high, low], [high, high], [low, high]])


def test_contour_in_a_contour_is_a_hole_and_an_island_in_it_is_not():
    outer, hole, island = square(0.5, 10.5), square(2.5, 8.5), square(4.5, 6.5)
    inside, holes = fill([hole, outer, island], (12, 12), EXACT)
    assert holes == 2
    assert inside.sum() == 100 - 36 + 4


def test_keyhole_is_open_inside():
    keyhole = np.array(
        [
            *[(0.5, 0.5), (9.5, 0.5), (9.5, 9.5), (0.5, 9.5), (0.5, 5.25), (3.5, 5.25)],
            *[(3.5, 6.5), (6.5, 6.5), (6.5, 3.5), (3.5, 3.5), (3.5, 5.25), (0.5, 5.25)],
        ]
    )
    inside, _ = fill([keyhole], (11, 11), EXACT)
    assert inside.sum() == 81 - 9
    assert not inside[4:7, 4:7].any()


def test_centres_on_the_path_count_within_the_tolerance_and_no_further():
    inside, _ = fill([square(2.0, 5.0)], (8, 8), EXACT)
    assert inside.sum() == 16  # centres 2, 3, 4, 5 both ways
    assert fill([square(2.004, 4.996)], (8, 8), (0.01, 0.01))[0].sum() == 16
    assert fill([square(2.02, 4.98)], (8, 8), (0.01, 0.01))[0].sum() == 4
    line = np.array([(1.0, 1.0), (6.0, 1.0), (6.0, 1.0)])  # encloses nothing
    assert fill([line], (8, 8), EXACT)[0].sum() == 6


def test_contours_beyond_the_image_are_cut_off():
    inside, _ = fill([square(-100, 3.5), square(20, 30), square(-30, -20)], (8, 8), EXACT)
    assert inside.sum() == 16
    assert inside[:4, :4].all()


def test_contours_that_cross_are_refused_and_those_that_touch_are_not():
    with pytest.raises(LabelError, match="cross"):
        fill([square(0.5, 6.5), square(3.5, 9.5)], (12, 12), EXACT)
    inside, holes = fill([square(0.5, 5.5), square(5.5, 9.5)], (12, 12), EXACT)
    assert (inside.sum(), holes) == (25 + 16, 0)


@pytest.fixture
def ct(series):
    stored = np.random.default_rng(7).integers(0, 2048, (5, 12, 16), dtype=np.uint16)
    return series(stored=stored, attributes=dict(SOURCE))


def images_of(made: Any) -> list[Any]:
    return [made.dataset(k) for k in range(len(made.stored))]


def scan_of(made: Any) -> Scan:
    rows, columns = made.stored.shape[1:]
    planes = Planes.at(
        made.positions, [*made.row, *made.column], made.pixel_spacing, rows=rows, columns=columns
    )
    steps = (np.diff(made.positions, axis=0)[0] * (-1, -1, 1))[:, None]
    affine = np.block(
        [[planes.steps.T, steps, planes.origins[0][:, None]], [np.zeros((1, 3)), 1.0]]
    )
    return Scan(
        planes,
        Geometry((columns, rows, len(made.stored)), affine),
        frozenset({made.uid}),
        frozenset(i.SOPInstanceUID for i in images_of(made)),
        frozenset({SOURCE["FrameOfReferenceUID"]}),
    )


def drawn(made: Any, k: int, corners: np.ndarray) -> tuple[int, np.ndarray]:
    """A contour on slice k through corners given as (column, row) of its pixels, in LPS mm."""
    across = np.outer(corners[:, 0] * made.pixel_spacing[1], made.row)
    down = np.outer(corners[:, 1] * made.pixel_spacing[0], made.column)
    return k, made.positions[k] + across + down


def box(made: Any, slices: range, low: float = 1.5, high: float = 5.5) -> list[Any]:
    return [drawn(made, k, square(low, high)) for k in slices]


def read(made: Any, scan: Scan, folder: Path, label_map: str | None = None) -> CaseMasks:
    path = save(made, folder / "rt.dcm")
    parsed = LabelMap.parse(label_map) if label_map else None
    with Reader() as reader:
        return read_structure_set(SourceFile(path), scan, parsed, reader)


def test_structures_overlap_and_keep_their_own_voxels(ct, tmp_path):
    rois = {
        "Liver": box(ct, range(1, 4)),
        "PDAC": box(ct, range(2, 3), 3.5, 9.5),
        "External": box(ct, range(5), -0.5, 11.5),
    }
    found = read(structure_set(images_of(ct), rois), scan_of(ct), tmp_path)
    expected = np.zeros((16, 12, 5), bool)
    expected[2:6, 2:6, 1:4] = True
    np.testing.assert_array_equal(found.coded.mask("liver"), expected)
    expected[:] = False
    expected[4:10, 4:10, 2] = True
    np.testing.assert_array_equal(found.coded.mask("pancreatic_lesion"), expected)
    assert found.unmapped == ["ROI 3 (External)"]


def test_structure_set_becomes_the_masks_of_its_ct(ct, run, tmp_path):
    ct.write(tmp_path / "in" / "ct")
    rois = {
        "Leber": box(ct, range(1, 4)),
        "Ludmilla special": box(ct, range(1, 2)),
        "small bowel mass 2": box(ct, range(1, 2)),
    }
    save(structure_set(images_of(ct), rois), tmp_path / "in" / "rt")
    result = run(tmp_path / "in", labels=tmp_path / "in")
    labels = result.data["labels"]
    assert labels["voxels"] == {"liver": 48}
    assert labels["unmapped"] == ["ROI 2", "ROI 3 (small bowel mass 2)"]
    assert labels["sources"] == {"liver": ["ROI 1"]}
    case = Dataset.open(result.out).cases()[0].labels()
    back = Volume(case.mask("liver"), case.geometry).reoriented("LPS").array
    assert np.argwhere(back).min(axis=0).tolist() == [2, 2, 1]
    assert np.argwhere(back).max(axis=0).tolist() == [5, 5, 3]


def test_contours_of_an_oblique_ct_are_taken_to_its_voxels(series, tmp_path):
    turn = np.deg2rad(25)
    made = series(
        stored=np.zeros((5, 12, 16), np.uint16),
        row=(float(np.cos(turn)), 0.0, float(np.sin(turn))),
        column=(0.0, 1.0, 0.0),
        attributes=dict(SOURCE),
    )
    found = read(
        structure_set(images_of(made), {"spleen": box(made, range(1, 3))}), scan_of(made), tmp_path
    )
    expected = np.zeros((16, 12, 5), bool)
    expected[2:6, 2:6, 1:3] = True
    np.testing.assert_array_equal(found.coded.mask("spleen"), expected)


def test_tilted_slices_at_varying_distances_take_their_own_contours(series, tmp_path):
    made = series(stored=np.zeros((5, 12, 16), np.uint16), attributes=dict(SOURCE))
    made.positions += np.outer(np.arange(5) ** 1.3, (0, 1.1, 0.4))
    scan = scan_of(made)
    scan = Scan(scan.planes, None, scan.series, scan.instances, scan.frames)
    made_set = structure_set(images_of(made), {"spleen": box(made, range(5))})
    found = read(made_set, scan, tmp_path)
    assert found.geometry is None
    assert found.coded.mask("spleen")[2:6, 2:6].all()
    assert found.coded.counts == {"spleen": 80}


def test_open_contours_and_points_are_left_and_told(ct, tmp_path):
    rois = {
        "liver": [*box(ct, range(1, 3)), drawn(ct, 2, square(1, 2)[:2])],
        "spleen": box(ct, range(1, 2)),
        "aorta": [],
    }
    made = structure_set(images_of(ct), rois, kinds={"spleen": "OPEN_PLANAR"})
    found = read(made, scan_of(ct), tmp_path)
    assert found.coded.structures == ("liver",)
    assert "ROI 1: 1 contours of fewer than three points, left out" in found.faults
    assert "ROI 2: 1 contours open or a point, left out" in found.faults
    assert "ROI 3 has no closed contour" in found.faults


def test_roi_without_contours_is_empty_only_where_the_label_map_says_so(ct, tmp_path):
    made = structure_set(images_of(ct), {"a": box(ct, range(1, 3)), "b": []})
    found = read(made, scan_of(ct), tmp_path, "1=liver,2=spleen")
    assert (found.coded.structures, found.empty) == (("liver", "spleen"), ["spleen"])


def test_a_contour_that_is_there_twice_counts_once(ct, tmp_path):
    made = structure_set(images_of(ct), {"liver": box(ct, range(1, 3)) * 2})
    found = read(made, scan_of(ct), tmp_path)
    assert found.coded.counts == {"liver": 32}
    assert [f for f in found.faults if "twice" in f] == [
        "ROI 1: 2 contours are there twice and count once"
    ]


def test_contours_between_slices_or_across_them_are_refused(ct, tmp_path):
    k, points = drawn(ct, 2, square(1.5, 5.5))
    for shift, error in ((np.array([0, 0, 0.09]), None), (np.array([0, 0, 0.11]), "off the CT")):
        made = structure_set(images_of(ct), {"liver": [(k, points + shift)]})
        if error is None:
            assert read(made, scan_of(ct), tmp_path).coded.counts == {"liver": 16}
        else:
            with pytest.raises(LabelError, match=error):
                read(made, scan_of(ct), tmp_path)
    tipped = points + np.outer([0, 0, 1, 1], (0, 0, 2.5))
    with pytest.raises(LabelError, match="off the CT"):
        read(structure_set(images_of(ct), {"liver": [(k, tipped)]}), scan_of(ct), tmp_path)


def test_structures_drawn_on_every_second_slice_are_refused(ct, tmp_path):
    contours = [drawn(ct, k, square(1.5, 5.5)) for k in (0, 2, 4)]
    with pytest.raises(LabelError, match="1 left out between them"):
        read(structure_set(images_of(ct), {"liver": contours}), scan_of(ct), tmp_path)
    contours = [drawn(ct, k, square(1.5, 5.5)) for k in (0, 1, 2, 4)]
    found = read(structure_set(images_of(ct), {"liver": contours}), scan_of(ct), tmp_path)
    assert "ROI 1: 1 slices between its contours have none" in found.faults


def test_dangling_references_are_refused(ct, series, tmp_path):
    made = structure_set(images_of(ct), {"liver": box(ct, range(1, 3))})
    scan = scan_of(ct)
    with pytest.raises(LabelError, match="another series"):
        read(made, scan_of(series(attributes=dict(SOURCE), uid=generate_uid())), tmp_path)
    short = Scan(
        scan.planes, scan.geometry, scan.series, frozenset(sorted(scan.instances)[1:]), scan.frames
    )
    with pytest.raises(LabelError, match="1 of 5 slices that the CT does not have"):
        read(made, short, tmp_path)
    named = copy.deepcopy(made)
    image = named.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    image.ReferencedSOPInstanceUID = generate_uid()
    with pytest.raises(LabelError, match="1 of 6 slices"):
        read(named, scan, tmp_path)


def test_another_series_uid_with_all_slices_of_the_ct_is_told_and_with_others_refused(ct, tmp_path):
    made = structure_set(images_of(ct), {"liver": box(ct, range(1, 3))})
    study = made.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    series = study.RTReferencedSeriesSequence[0]
    series.SeriesInstanceUID = generate_uid()
    found = read(made, scan_of(ct), tmp_path)
    assert "the structure set names another series, though slices of this CT" in found.faults
    series.ContourImageSequence[0].ReferencedSOPInstanceUID = generate_uid()
    with pytest.raises(LabelError, match="slices that the CT does not have"):
        read(made, scan_of(ct), tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2"],
        ["nan", "2", "3"] * 3,
        ["1", "2", "inf"] * 3,
        ["1e30", "2", "3"] * 3,
        [],
        ["1", "2", "3"] * 5,  # not as many as are counted
    ],
)
def test_damaged_points_end_as_an_error(ct, tmp_path, values):
    made = structure_set(images_of(ct), {"liver": box(ct, range(1, 3))})
    contour = made.ROIContourSequence[0].ContourSequence[1]
    # Past pydicom's own checks, as a hostile file does.
    contour._dict[pydicom.tag.Tag("ContourData")] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag("ContourData"), "DS", 1, "\\".join(values).encode(), 0, False, True
    )
    with pytest.raises(ImageError, match="points are damaged"):
        read(made, scan_of(ct), tmp_path)


def test_structure_sets_larger_than_any_real_one_are_refused_before_they_are_read(
    ct, tmp_path, monkeypatch
):
    made = structure_set(images_of(ct), {"liver": box(ct, range(1, 4))})
    path = save(made, tmp_path / "rt.dcm")
    with path.open("r+b") as file:
        file.truncate(2**30 + 1)  # sparse: it takes no room on disk
    with Reader() as reader, pytest.raises(ImageError, match="at most 1073741824 are read"):
        read_structure_set(SourceFile(path), scan_of(ct), None, reader)
    monkeypatch.setattr(rtstruct, "_MOST_POINTS", 11)
    with pytest.raises(ImageError, match="more than 11 points"):
        read(made, scan_of(ct), tmp_path)


def test_contours_of_unknown_kind_are_damaged_and_not_left_out(ct, tmp_path):
    made = structure_set(images_of(ct), {"liver": box(ct, range(1, 3))})
    made.ROIContourSequence[0].ContourSequence[1].ContourGeometricType = "CLOSED_PLANA"
    with pytest.raises(ImageError, match="neither closed, open nor a point"):
        read(made, scan_of(ct), tmp_path)


def test_every_cut_of_a_structure_set_is_an_error_of_ours(ct, tmp_path):
    made = structure_set(images_of(ct), {"liver": box(ct, range(1, 3))})
    whole = save(made, tmp_path / "rt.dcm").read_bytes()
    complete = read(made, scan_of(ct), tmp_path).coded.mask("liver")
    for size in range(0, len(whole) - 2, 173):
        (tmp_path / "cut.dcm").write_bytes(whole[:size])
        with Reader() as reader:
            try:
                found = read_structure_set(
                    SourceFile(tmp_path / "cut.dcm"), scan_of(ct), None, reader
                )
            except (ImageError, LabelError):
                continue
        np.testing.assert_array_equal(found.coded.mask("liver"), complete)


def test_real_structure_set_fills_the_squares_it_names(shared_data, run):
    folder = shared_data / "dicom" / "rtstruct"
    with Reader() as reader:
        slices = [pydicom.dcmread(folder / f"ct_{n}.dcm") for n in (1, 2)]
        scan = Scan(
            Planes.at(
                [s.ImagePositionPatient for s in slices],
                slices[0].ImageOrientationPatient,
                slices[0].PixelSpacing,
                rows=512,
                columns=512,
            ),
            None,
            frozenset({slices[0].SeriesInstanceUID}),
            frozenset(s.SOPInstanceUID for s in slices),
            frozenset({slices[0].FrameOfReferenceUID}),
        )
        label_map = LabelMap.parse("1=liver")
        found = read_structure_set(SourceFile(folder / "rt.dcm"), scan, label_map, reader)
    assert "another frame of reference" in found.faults[0]
    item = pydicom.dcmread(folder / "rt.dcm").ROIContourSequence[0].ContourSequence
    expected = np.zeros((512, 512), bool)
    centres = np.indices((512, 512)).reshape(2, -1).T * 0.488281 - 125
    for contour in item:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        assert (points[:, 2] == 60).all()
        expected ^= Polygon(points[:, :2]).contains_points(centres).reshape(512, 512)
    assert expected.any()
    np.testing.assert_array_equal(found.coded.mask("liver")[:, :, 0], expected)
    assert not found.coded.mask("liver")[:, :, 1].any()


def test_real_structure_set_is_written_with_its_ct(shared_data, run):
    folder = shared_data / "dicom" / "rtstruct"
    result = run(
        folder / "ct_1.dcm",
        folder / "ct_2.dcm",
        labels=folder / "rt.dcm",
        label_map="1=liver",
    )
    assert result.statuses == ["done"]
    assert result.data["labels"]["sources"] == {"liver": ["ROI 1"]}
    case = Dataset.open(result.out).cases()[0].labels()
    mask = Volume(case.mask("liver"), case.geometry).reoriented("LPS").array
    filled = np.argwhere(mask)
    assert set(filled[:, 2]) == {0}
    # From -51 to -27 mm along x and y, of pixels of 0.488281 mm from -125 mm on.
    assert filled[:, :2].min(axis=0).tolist() == [152, 152]
    assert filled[:, :2].max(axis=0).tolist() == [200, 200]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("invalid_reference_rt", "3 of 5 slices that the CT does not have"),
        ("non_existent_reference_rt", "slices that the CT does not have"),
    ],
)
def test_real_structure_sets_of_lost_slices_are_refused(shared_data, run, tmp_path, name, said):
    folder = shared_data / "dicom" / "rtstruct"
    result = run(
        folder / "ct_1.dcm",
        folder / "ct_2.dcm",
        labels=folder / f"{name}.dcm",
        label_map="1=liver,2=spleen,3=colon,4=aorta",
    )
    assert result.statuses == ["failed"]
    assert said in result.message
    assert result.files == []
