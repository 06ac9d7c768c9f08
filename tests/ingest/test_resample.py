"""Tilted and unevenly spaced slices on an orthogonal grid, against truth worked out from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from pantskit.core.errors import Quarantined
from pantskit.ingest.dicom.geometry import IrregularStack, arrange_slices
from pantskit.ingest.dicom.headers import read_header
from pantskit.ingest.dicom.resample import (
    resample_labels,
    resample_stack,
    resampled_geometry,
    resampling_record,
)
from pantskit.ingest.dicom.stacks import read_mask_series, read_series, series_layout
from pantskit.ingest.discovery.sources import Reader, SourceFile

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ROWS, COLUMNS = 14, 18
SPACING = (0.8, 0.6)  # between rows, between columns
TILT = np.tan(np.radians(17.0))
EVEN = [2.5 * k for k in range(7)]
UNEVEN = [0, 2, 4, 6, 10, 14, 18]  # thin, then thick

# Sideways mm for each mm along the normal: (along a row, down a column).
SHIFTS = {"down": (0.0, -TILT), "along rows": (TILT, 0.0), "both": (0.2, 0.31)}


def arranged(along, shift=(0.0, 0.0), orientation=AXIAL, origin=(-20.0, 11.0, 40.0)):
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    positions = [
        np.array(origin) + z * normal + z * shift[0] * row + z * shift[1] * column for z in along
    ]
    numbers = range(1, len(along) + 1)
    found = arrange_slices(
        positions, orientation, SPACING, rows=ROWS, columns=COLUMNS, instances=list(numbers)
    )
    return found, np.array(positions)


def world_points(positions, orientation=AXIAL) -> np.ndarray:
    """(n, rows, columns, 3) RAS mm of every pixel of every slice."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    r, c = np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), indexing="ij")
    within = c[..., None] * SPACING[1] * row + r[..., None] * SPACING[0] * column
    return (positions[:, None, None, :] + within) * [-1, -1, 1]


def interpolated(world, frames, positions, orientation, spacing) -> float | None:
    """Value at a RAS point by the definition, voxel by voxel; None where a slice has no pixel."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    lps = np.asarray(world) * [-1, -1, 1]
    heights = [(lps - p) @ normal for p in positions]  # falls from slice to slice
    above = next((n for n, h in enumerate(heights) if h < -1e-6), len(heights))
    below = above - 1
    pair = [(below, 1.0)]
    if abs(heights[below]) > 1e-6:
        if above == len(heights):
            return None
        share = heights[below] / (heights[below] - heights[above])
        pair = [(below, 1 - share), (above, share)]
    value = 0.0
    for n, weight in pair:
        c = (lps - positions[n]) @ row / spacing[1]
        r = (lps - positions[n]) @ column / spacing[0]
        c, r = (round(v) if abs(v - round(v)) < 1e-6 else v for v in (c, r))
        rows, columns = frames[n].shape
        if not (0 <= r <= rows - 1 and 0 <= c <= columns - 1):
            return None
        r0, c0 = min(int(r), rows - 2), min(int(c), columns - 2)
        corner = frames[n][r0 : r0 + 2, c0 : c0 + 2]
        value += weight * float([1 - (r - r0), r - r0] @ corner @ [1 - (c - c0), c - c0])
    return value


def expected_hu(value: float | None) -> int:
    return -1000 if value is None else int(np.clip(np.rint(value), -1000, 1000))


@pytest.mark.parametrize("along", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_every_voxel_is_interpolated_from_the_slices_about_it(along, shift):
    found, positions = arranged(along, shift)
    assert isinstance(found, IrregularStack)
    frames = np.random.default_rng(2).uniform(-900, 900, (len(along), ROWS, COLUMNS))
    volume = resample_stack(frames, found)
    outside = 0
    for ijk in np.ndindex(volume.array.shape):
        value = interpolated(volume.geometry.to_world(ijk), frames, positions, AXIAL, SPACING)
        if value is None or abs(value - np.floor(value) - 0.5) > 1e-6:  # halves may go both ways
            assert volume.array[ijk] == expected_hu(value)
        outside += value is None
    assert 0 < outside < 0.7 * volume.array.size  # corners that only some slices reach


def test_oblique_slices_are_resampled_in_their_own_directions():
    angle = np.radians(25)
    oblique = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))
    found, positions = arranged(UNEVEN, (0.1, 0.25), oblique)
    frames = np.random.default_rng(4).uniform(-900, 900, (len(UNEVEN), ROWS, COLUMNS))
    volume = resample_stack(frames, found)
    volume.geometry.require_plausible("resampled")
    for ijk in np.random.default_rng(1).integers(0, volume.array.shape, (300, 3)):
        value = interpolated(volume.geometry.to_world(ijk), frames, positions, oblique, SPACING)
        assert abs(int(volume.array[tuple(ijk)]) - expected_hu(value)) <= 1


@pytest.mark.parametrize("along", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_ramp_in_the_world_stays_that_ramp(along):
    """Interpolating a linear field gives the field: any wrong place would show."""
    found, positions = arranged(along, (0.15, -0.3))

    def ramp(points):
        return 3 + points @ [7.0, -11.0, 13.0]

    volume = resample_stack(ramp(world_points(positions)), found)
    inside = volume.array > -1000
    ijk = np.argwhere(inside)
    truth = ramp(volume.geometry.to_world(ijk))
    assert np.abs(volume.array[inside] - np.clip(truth, -1000, 1000)).max() <= 0.5 + 1e-6
    assert inside.mean() > 0.4


def test_ball_keeps_its_place_and_its_volume():
    along = np.concatenate([np.arange(0, 20, 1.0), np.arange(20, 41, 2.0)])
    rows = columns = 80
    shift = np.array([0.0, TILT])
    positions = np.array([[0.0, z * shift[1], z] for z in along])
    found = arrange_slices(
        positions, AXIAL, (0.5, 0.5), rows=rows, columns=columns,
        instances=list(range(len(along))),
    )  # fmt: skip
    centre, radius = np.array([-20.0, -26.0, 20.0]), 11.0  # RAS
    r, c = np.meshgrid(np.arange(rows) * 0.5, np.arange(columns) * 0.5, indexing="ij")
    points = (positions[:, None, None, :] + np.stack([c, r, 0 * r], axis=-1)) * [-1, -1, 1]
    distance = np.linalg.norm(points - centre, axis=-1)
    frames = 200.0 * np.clip(radius - distance + 0.5, 0, 1)  # 1 mm of soft edge
    volume = resample_stack(frames, found)
    inside = np.argwhere(volume.array > 100)
    assert np.linalg.norm(volume.geometry.to_world(inside).mean(axis=0) - centre) < 0.05
    found_mm3 = len(inside) * volume.geometry.voxel_volume_mm3
    # Chords between slices lie within the ball: a little is lost where they are 2 mm apart.
    assert found_mm3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)


def test_grid_is_orthogonal_and_holds_every_slice():
    found, positions = arranged(UNEVEN, (0.0, -TILT))
    geometry = resampled_geometry(found)
    assert geometry.shear < 1e-12
    assert geometry.spacing == pytest.approx((0.6, 0.8, 2.0))
    reach = 18 * TILT / 0.8  # rows by which the last slice lies further up
    assert geometry.shape == (COLUMNS, ROWS + int(np.ceil(reach)), 10)
    voxels = geometry.to_voxel(world_points(positions).reshape(-1, 3))
    assert voxels.min() > -1e-6
    assert (voxels.max(axis=0) < np.array(geometry.shape) - 1 + 1e-6).all()
    first = geometry.to_voxel(positions[0] * [-1, -1, 1])
    np.testing.assert_allclose(first, np.rint(first), atol=1e-6)  # its pixels are not moved


def test_source_slices_on_the_grid_are_kept_as_they_are():
    found, _ = arranged(UNEVEN)
    frames = np.random.default_rng(3).integers(-900, 900, (7, ROWS, COLUMNS)).astype(float)
    volume = resample_stack(frames, found).reoriented("LPS")
    for n, z in enumerate(UNEVEN):
        np.testing.assert_array_equal(volume.array[:, :, z // 2].T, frames[n])
    between = np.rint((frames[3] + frames[4]) / 2)
    assert np.abs(volume.array[:, :, 4].T - between).max() <= 0


def test_values_are_rounded_and_clipped_after_interpolation():
    found, _ = arranged([0, 2, 4, 8, 12])
    frames = np.full((5, ROWS, COLUMNS), 2000.0)
    frames[3] = -300.6
    volume = resample_stack(frames, found).reoriented("LPS")
    # 2000 beyond the range and -300.6 meet at 849.7; clipped first it would be 349.7.
    assert (volume.array[:, :, 3] == 850).all()
    assert (volume.array[:, :, 4] == -301).all()


def test_labels_take_the_nearest_pixel_on_the_same_grid():
    found, positions = arranged(UNEVEN, (0.11, -TILT))
    labels = np.random.default_rng(8).integers(1, 200, (7, ROWS, COLUMNS), dtype=np.uint8)
    result = resample_labels(labels, found)
    ct = resample_stack(labels.astype(float), found)
    assert result.array.dtype == np.uint8
    assert result.geometry.same_grid(ct.geometry, tolerance_mm=1e-9)
    normal = np.array([0.0, 0.0, 1.0])
    for ijk in np.ndindex(result.array.shape):
        lps = result.geometry.to_world(ijk) * [-1, -1, 1]
        heights = np.abs([(lps - p) @ normal for p in positions])
        if np.sum(heights < heights.min() + 1e-6) > 1:
            continue  # half way between two
        offset = lps - positions[heights.argmin()]
        c, r = offset[0] / SPACING[1], offset[1] / SPACING[0]
        if max(abs(c % 1 - 0.5), abs(r % 1 - 0.5)) < 1e-6:
            continue
        c, r = round(c), round(r)
        inside = 0 <= r < ROWS and 0 <= c < COLUMNS
        assert result.array[ijk] == (labels[heights.argmin()][r, c] if inside else 0)


def test_grid_many_times_larger_than_the_slices_is_refused():
    found, _ = arranged([0, 0.1, 0.2, 5, 9.8, 14.6, 19.4])
    with pytest.raises(Quarantined, match="more than 16 times as many"):
        resampled_geometry(found)


def test_record_holds_what_was_there_and_what_was_done():
    found, _ = arranged([*UNEVEN, 22.5, 27.0], (0.0, -TILT))
    record = resampling_record(found, -17.0)
    assert record["causes"] == ["spacing", "tilt"]
    assert record["tilt_degrees"] == pytest.approx(17.0, abs=1e-3)
    assert record["tilt_degrees_by_tag"] == -17.0
    assert record["source_positions_mm"] == [0, 2, 4, 6, 10, 14, 18, 22.5, 27]
    assert record["source_steps_mm"] == [2, 4, 4.5]
    assert record["source_shifts_mm"][1] == [0, pytest.approx(-2 * TILT, abs=1e-4)]
    assert record["slice_spacing_mm"] == 2
    assert record["end_not_covered_mm"] == pytest.approx(1.0)
    assert record["source_shape"] == [COLUMNS, ROWS, 9]


@pytest.fixture
def tilted(series, tmp_path) -> tuple[list, np.ndarray, np.ndarray]:
    """Headers, positions and HU of a made series with tilt and two spacings."""
    stored = np.random.default_rng(6).integers(200, 2000, (7, ROWS, COLUMNS)).astype(np.uint16)
    made = series(stored=stored, attributes={"GantryDetectorTilt": 17.0})
    made.pixel_spacing = SPACING
    made.positions = np.array([[-20.0, 11.0 - z * TILT, 40.0 + z] for z in UNEVEN])
    made.slope[:] = [1, 0.5, 1, 1, 1.25, 1, 1]
    hu = stored * made.slope[:, None, None] - 1024.0
    return headers_of(made.write(tmp_path / "in")), made.positions, hu


def dicom_files(folder: Path) -> list[Path]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "DIRFILE"]
    return [p for p in files if p.read_bytes()[128:132] == b"DICM"]


def headers_of(folder: Path) -> list:
    found = []
    for path in dicom_files(folder):
        with path.open("rb") as stream:
            found += read_header(stream, SourceFile(path), {})
    return found


def test_series_is_resampled_from_its_files(tilted):
    headers, positions, hu = tilted
    with Reader() as reader:
        volume, clipped, layout = read_series(headers, reader, allowed=("tilt", "spacing"))
    assert volume.geometry.orientation == "LAI"
    assert volume.array.flags.f_contiguous
    assert (clipped.low, clipped.high) == (np.rint(hu.min()), np.rint(hu.max()))
    assert resampling_record(layout, headers[0].tilt)["tilt_degrees_by_tag"] == 17.0
    for ijk in np.ndindex(volume.array.shape):
        value = interpolated(volume.geometry.to_world(ijk), hu, positions, AXIAL, SPACING)
        assert abs(int(volume.array[ijk]) - expected_hu(value)) <= (value is not None)


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        ((), "spacing varies from 2 to 4 mm.*and slices shift sideways"),
        (("tilt",), "spacing varies from 2 to 4 mm"),
        (("spacing",), "gantry tilt of 17.0 degrees"),
    ],
)
def test_each_cause_needs_its_own_permission(tilted, allowed, refused):
    with Reader() as reader, pytest.raises(Quarantined, match=refused):
        read_series(tilted[0], reader, allowed=allowed)


def test_mask_series_follows_the_ct_onto_its_grid(series, tilted, tmp_path):
    headers, positions, _ = tilted
    stored = (np.random.default_rng(9).random((7, ROWS, COLUMNS)) < 0.3).astype(np.uint8) * 255
    made = series(stored=stored)
    made.pixel_spacing, made.positions = SPACING, positions
    masks = headers_of(made.write(tmp_path / "mask"))
    both = ("tilt", "spacing")
    with Reader() as reader:
        mask = read_mask_series(masks, reader, allowed=both)
        ct, _, _ = read_series(headers, reader, allowed=both)
    assert mask.geometry.same_grid(ct.geometry, tolerance_mm=1e-9)
    assert mask.array.dtype == np.bool_
    np.testing.assert_array_equal(mask.reoriented("LPS").array[:, :, 0].T[-ROWS:], stored[0] > 0)


ALLOWED = ("tilt", "spacing")


def real_slices(folder: Path):
    """Slices of a real folder from pydicom alone: HU, positions, orientation, spacing."""
    raw = [pydicom.dcmread(path) for path in dicom_files(folder)]
    normal = np.cross(raw[0].ImageOrientationPatient[:3], raw[0].ImageOrientationPatient[3:])
    raw.sort(key=lambda d: float(np.dot(d.ImagePositionPatient, normal)))
    hu = [d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in raw]
    positions = np.array([d.ImagePositionPatient for d in raw], float)
    orientation = tuple(float(v) for v in raw[0].ImageOrientationPatient)
    return hu, positions, orientation, tuple(float(v) for v in raw[0].PixelSpacing)


@pytest.mark.parametrize(("name", "tilt"), [("philips_tilt", 18.5), ("tilt_untagged", 14.0)])
def test_real_tilted_series_lies_where_its_slices_say(shared_data, name, tilt):
    folder = shared_data / "dicom" / name
    headers = headers_of(folder)
    with Reader() as reader:
        volume, _, layout = read_series(headers, reader, allowed=("tilt",))
    record = resampling_record(layout, headers[0].tilt)
    assert record["tilt_degrees"] == pytest.approx(tilt, abs=1e-3)
    assert record["tilt_degrees_by_tag"] == (-18.5 if name == "philips_tilt" else None)
    hu, positions, orientation, spacing = real_slices(folder)
    rng = np.random.default_rng(11)
    seen = 0
    for ijk in rng.integers(0, volume.array.shape, (800, 3)):
        world = volume.geometry.to_world(ijk)
        value = interpolated(world, hu, positions, orientation, spacing)
        assert abs(int(volume.array[tuple(ijk)]) - expected_hu(value)) <= 1
        seen += value is not None
    assert seen > 400


def test_real_series_with_a_gap_is_never_filled(shared_data):
    headers = headers_of(shared_data / "dicom/missing_slice")
    assert series_layout(headers).causes == ("missing",)
    with Reader() as reader, pytest.raises(Quarantined, match="slices are missing: 1 of 5"):
        read_series(headers, reader, allowed=ALLOWED)


def test_two_spacings_close_to_each_other_are_resampled_at_the_smaller_one():
    layout, _ = arranged([0, 2.5, 5, 7.5, 10.5, 13.5, 16.5, 19.5])
    assert layout.causes == ("spacing",)
    grid = resampled_geometry(layout)
    assert grid.spacing[2] == pytest.approx(2.5)
    assert grid.shape[2] == 8  # 0 to 17.5; the last slice lies 2 mm further
    assert resampling_record(layout, None)["end_not_covered_mm"] == pytest.approx(2.0)
