from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its users call it so)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pantskit.core.errors import GeometryError
from pantskit.core.geometry import STANDARD_ORIENTATION, Geometry, require_same_grid
from pantskit.core.volume import Volume

CODES = [
    "".join(codes)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]


def rotation(x: float, y: float, z: float) -> NDArray[np.float64]:
    cx, cy, cz, sx, sy, sz = *np.cos([x, y, z]), *np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def oblique(
    shape: tuple[int, int, int] = (3, 4, 5),
    angles: tuple[float, float, float] = (0.2, -0.1, 0.3),
    spacing: tuple[float, float, float] = (0.7, 0.9, 2.5),
) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = rotation(*angles) * spacing
    affine[:3, 3] = (-120.5, 33.25, 801.0)
    return Geometry(shape, affine)


angles = st.tuples(*[st.floats(-3.1, 3.1)] * 3)
spacings = st.tuples(*[st.floats(0.3, 5.0)] * 3)


def test_the_standard_orientation_is_the_papers_rps_which_names_where_axes_come_from() -> None:
    # The group's own code asks ITK for the direction diag(1, -1, -1) and calls it RPS.
    image = sitk.Image(2, 2, 2, sitk.sitkInt16)
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, -1))
    x, y, z = image.TransformIndexToPhysicalPoint((1, 1, 1))  # LPS
    toward = ("L" if x > 0 else "R") + ("P" if y > 0 else "A") + ("S" if z > 0 else "I")
    assert toward == STANDARD_ORIENTATION == "LAI"


def test_spacing_orientation_and_volume_of_an_axis_aligned_grid() -> None:
    grid = Geometry.from_spacing((4, 5, 6), (0.8, 0.9, 2.5), origin=(10, 20, 30))
    expected = [[-0.8, 0, 0, 10], [0, 0.9, 0, 20], [0, 0, -2.5, 30], [0, 0, 0, 1]]
    assert grid.affine.tolist() == expected
    assert grid.spacing == pytest.approx((0.8, 0.9, 2.5))
    assert grid.orientation == "LAI"
    assert grid.voxel_volume_mm3 == pytest.approx(0.8 * 0.9 * 2.5)
    assert grid.shear == pytest.approx(0)
    assert grid.to_world([3, 0, 2]).tolist() == pytest.approx([10 - 2.4, 20, 25])
    assert grid.describe() == "(4, 5, 6) at (0.8, 0.9, 2.5) mm, LAI"


def test_permuted_axes_keep_their_spacing() -> None:
    grid = Geometry.from_spacing((4, 5, 6), (0.8, 0.9, 2.5), orientation="SLA")
    assert grid.orientation == "SLA"
    assert grid.spacing == pytest.approx((0.8, 0.9, 2.5))
    assert grid.affine[2, 0] == 0.8
    assert grid.affine[0, 1] == -0.9
    assert grid.affine[1, 2] == 2.5


def test_an_oblique_grid_has_the_volume_of_its_spacings() -> None:
    grid = oblique(spacing=(0.5, 2.0, 3.0))
    assert grid.spacing == pytest.approx((0.5, 2.0, 3.0))
    assert grid.voxel_volume_mm3 == pytest.approx(3.0)
    assert grid.shear < 1e-12


@given(angles=angles, spacing=spacings)
@settings(max_examples=40, deadline=None)
def test_world_points_agree_with_itk_on_oblique_grids(
    angles: tuple[float, float, float], spacing: tuple[float, float, float]
) -> None:
    grid = oblique(angles=angles, spacing=spacing)
    image = sitk.Image(*grid.shape, sitk.sitkUInt8)
    lps = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(spacing)
    image.SetDirection((lps @ grid.affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((lps @ grid.affine[:3, 3]).tolist())
    for ijk in [(0, 0, 0), (2, 3, 4), (1, 0, 3)]:
        itk_point = lps @ image.TransformIndexToPhysicalPoint(ijk)
        np.testing.assert_allclose(grid.to_world(ijk), itk_point, atol=1e-9)
        np.testing.assert_allclose(grid.to_voxel(itk_point), ijk, atol=1e-6)


def test_reorienting_by_hand() -> None:
    grid = Geometry.from_spacing((2, 3, 4), (1, 2, 5), orientation="RAS", origin=(100, 200, 300))
    turned = grid.reoriented("LAI")
    assert turned.shape == (2, 3, 4)
    # The first voxel is the one that was last along i and k: 1 mm right and 15 mm up.
    assert turned.affine[:3, 3].tolist() == [101, 200, 315]
    assert grid.reoriented("SAR").shape == (4, 3, 2)


@given(angles=angles, spacing=spacings, codes=st.sampled_from(CODES))
@settings(max_examples=60, deadline=None)
def test_reorienting_moves_no_voxel_in_the_world(
    angles: tuple[float, float, float], spacing: tuple[float, float, float], codes: str
) -> None:
    grid = oblique(angles=angles, spacing=spacing)
    volume = Volume(np.arange(60, dtype=np.int16).reshape(grid.shape, order="F"), grid)
    turned = volume.reoriented(codes)
    assert turned.array.dtype == np.int16
    assert turned.geometry.orientation == codes
    index = np.argwhere(np.ones(turned.array.shape))
    original = np.rint(grid.to_voxel(turned.geometry.to_world(index))).astype(int)
    np.testing.assert_array_equal(volume.array[tuple(original.T)], turned.array[tuple(index.T)])
    back = turned.reoriented(grid.orientation)
    assert back.geometry.same_grid(grid, 1e-9)
    np.testing.assert_array_equal(back.array, volume.array)


@pytest.mark.parametrize("codes", ["LAI", "RAS", "LPS", "PIR"])
def test_reorienting_agrees_with_itk(codes: str) -> None:
    grid = oblique()
    array = np.arange(60, dtype=np.int16).reshape(grid.shape, order="F")
    image = sitk.GetImageFromArray(array.T)
    lps = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(grid.spacing)
    image.SetDirection((lps @ grid.affine[:3, :3] / grid.spacing).ravel().tolist())
    image.SetOrigin((lps @ grid.affine[:3, 3]).tolist())
    # SimpleITK's DICOMOrient names where an axis goes to, as nibabel does.
    theirs = sitk.DICOMOrient(image, codes)
    ours = Volume(array, grid).reoriented(codes)
    np.testing.assert_array_equal(ours.array, sitk.GetArrayFromImage(theirs).T)
    np.testing.assert_allclose(ours.geometry.affine[:3, 3], lps @ theirs.GetOrigin(), atol=1e-9)


def test_reorienting_is_a_view() -> None:
    volume = Volume(np.zeros((3, 4, 5), np.int16, order="F"), Geometry((3, 4, 5), np.eye(4)))
    assert np.shares_memory(volume.reoriented("IPL").array, volume.array)


def test_grids_are_the_same_up_to_a_hundredth_of_a_millimetre_at_any_corner() -> None:
    grid = Geometry.from_spacing((512, 512, 300), (0.8, 0.8, 1.0))
    assert grid.same_grid(Geometry(grid.shape, grid.affine + _shift(0.009)))
    assert not grid.same_grid(Geometry(grid.shape, grid.affine + _shift(0.011)))
    # The origin agrees; the far corner is 0.0001 * 511 = 0.05 mm away.
    stretched = grid.affine.copy()
    stretched[0, 0] -= 0.0001
    assert not grid.same_grid(Geometry(grid.shape, stretched))


def _shift(mm: float) -> NDArray[np.float64]:
    shift = np.zeros((4, 4))
    shift[2, 3] = mm
    return shift


def test_grids_of_different_shape_are_never_the_same() -> None:
    assert not Geometry((3, 4, 5), np.eye(4)).same_grid(Geometry((3, 4, 6), np.eye(4)))


def test_the_same_grid_in_another_orientation_is_another_grid() -> None:
    grid = Geometry((4, 4, 4), np.eye(4))
    assert not grid.same_grid(grid.reoriented("LPI"))


def test_a_mismatch_names_the_case_and_both_grids() -> None:
    label = Geometry.from_spacing((512, 512, 160), (0.8, 0.8, 1.25))
    ct = Geometry.from_spacing((512, 512, 80), (0.8, 0.8, 2.5))
    with pytest.raises(GeometryError) as error:
        require_same_grid(label, ct, what="PanTS_00000042: label and CT")
    assert str(error.value) == (
        "PanTS_00000042: label and CT are on different grids: (512, 512, 160) at (0.8, 0.8, 1.25) "
        "mm, LAI and (512, 512, 80) at (0.8, 0.8, 2.5) mm, LAI. Resample one onto the other first."
    )


def test_a_mismatch_in_position_only_says_how_far() -> None:
    a = Geometry.from_spacing((4, 4, 4), (1, 1, 1))
    b = Geometry.from_spacing((4, 4, 4), (1, 1, 1), origin=(3, 4, 0))
    with pytest.raises(GeometryError, match=r"same shape \(4, 4, 4\), but corners 5\.000 mm apart"):
        require_same_grid(a, b, what="case: label and CT")


def test_a_geometry_cannot_be_changed_in_place() -> None:
    affine = np.eye(4)
    grid = Geometry((2, 2, 2), affine)
    affine[0, 0] = 7
    assert grid.spacing == (1, 1, 1)
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 7


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((2, 2, 2), np.diag([1.0, 1, 0, 1]), "singular"),
        ((2, 2, 2), np.diag([1.0, np.nan, 1, 1]), "finite 4 x 4"),
        ((2, 2, 2), np.eye(3), "finite 4 x 4"),
        ((2, 2), np.eye(4), "three axes"),
        ((2, 0, 2), np.eye(4), "three axes"),
    ],
)
def test_no_grid_is_made_of_what_is_none(
    shape: tuple[int, int, int], affine: NDArray[np.float64], message: str
) -> None:
    with pytest.raises(GeometryError, match=message):
        Geometry(shape, affine)


@pytest.mark.parametrize("codes", ["LAX", "LA", "LRS", "", "LAIS"])
def test_an_orientation_that_is_none_is_refused(codes: str) -> None:
    with pytest.raises(GeometryError, match="three codes such as 'LAI'"):
        oblique().reoriented(codes)


def test_a_gantry_tilt_is_not_plausible() -> None:
    affine = np.eye(4)
    affine[1, 2] = np.tan(np.deg2rad(18.5))
    with pytest.raises(GeometryError, match=r"case: axes are not perpendicular \(cosine 0\.3173"):
        Geometry((4, 4, 4), affine).require_plausible("case")


def test_rounding_of_a_header_is_no_shear() -> None:
    affine = oblique().affine.astype(np.float32).astype(np.float64)
    affine[0, 1] += 1e-4
    Geometry((4, 4, 4), affine).require_plausible("case")


@pytest.mark.parametrize("spacing", [(0.001, 1, 1), (1, 1, 51), (750, 750, 1000)])
def test_a_spacing_that_is_no_millimetres_of_a_ct_is_refused(
    spacing: tuple[float, float, float],
) -> None:
    with pytest.raises(GeometryError, match=r"outside 0\.01 to 50 mm"):
        Geometry.from_spacing((4, 4, 4), spacing).require_plausible("case")


def test_orientation_agrees_with_nibabel_on_every_code() -> None:
    for codes in CODES:
        grid = Geometry.from_spacing((2, 3, 4), (1, 2, 3), orientation=codes)
        assert "".join(nib.aff2axcodes(grid.affine)) == codes == grid.orientation


def test_extent_is_voxels_times_spacing():
    geometry = Geometry.from_spacing((10, 20, 30), (0.5, 1.0, 2.5))
    assert geometry.extent_mm == (5.0, 20.0, 75.0)
