"""What of the body is in view; a face must never be missed."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES
from pantskit.core.volume import Volume, read_volume
from pantskit.ingest.facts.view import cut_structures, look_at
from pantskit.phantom.case import make_case
from pantskit.phantom.scans import CohortPlan

MM = 3.0  # in plane; slices are 5 mm apart
SIZE = 150  # 450 mm
STEP = 5.0


def plane(fill: int = -1000) -> np.ndarray:
    return np.full((SIZE, SIZE), fill, np.int16)


def ellipse(width: float, depth: float, at: tuple[float, float] = (0, 0)) -> np.ndarray:
    """Mask of an ellipse; full width (left-right) and depth (front-back) and middle in mm."""
    x = (np.arange(SIZE)[:, None] - SIZE / 2) * MM - at[0]
    y = (np.arange(SIZE)[None, :] - SIZE / 2) * MM - at[1]
    return (2 * x / width) ** 2 + (2 * y / depth) ** 2 <= 1


def trunk(width: float = 320, depth: float = 220, lung: bool = False) -> np.ndarray:
    slab = plane()
    slab[ellipse(width, depth)] = 40
    if lung:
        for side in (-1, 1):
            slab[ellipse(0.36 * width, 0.6 * depth, (side * 0.25 * width, 0))] = -820
    slab[ellipse(22, 22, (0, -0.35 * depth))] = 500
    return slab


def pelvis() -> np.ndarray:
    slab = trunk()
    for side in (-1, 1):
        slab[ellipse(20, 80, (side * 100, 0))] = 600
    return slab


def head() -> np.ndarray:
    slab = plane()
    slab[ellipse(158, 200)] = 30
    slab[ellipse(148, 190)] = 900
    slab[ellipse(134, 176)] = 35
    return slab


def with_arms(slab: np.ndarray) -> np.ndarray:
    for side in (-1, 1):
        slab[ellipse(80, 80, (side * 110, 0))] = 40
        slab[ellipse(24, 24, (side * 110, 0))] = 700
    return slab


def on_a_table(slab: np.ndarray) -> np.ndarray:
    y = (np.arange(SIZE) - SIZE / 2) * MM
    slab[:, (y < -95) & (y > -125)] = np.maximum(slab[:, (y < -95) & (y > -125)], -150)
    return slab


def thighs() -> np.ndarray:
    slab = plane()
    for side in (-1, 1):
        slab[ellipse(150, 150, (side * 85, 0))] = 40
        slab[ellipse(28, 28, (side * 85, 0))] = 700
    return slab


def scan(*parts: tuple[np.ndarray, int], orientation: str = "LAI") -> Volume:
    """Slabs with their number of slices, from the head down, with noise."""
    array = np.concatenate([np.repeat(s[:, :, None], n, axis=2) for s, n in parts], axis=2)
    noise = np.random.default_rng(1).normal(0, 12, array.shape)
    array = np.clip(array + noise, -1000, 1000).astype(np.int16)
    made = Volume(array, Geometry.from_spacing(array.shape, (MM, MM, STEP), orientation="LAI"))
    return made.reoriented(orientation)


@pytest.mark.parametrize("orientation", ["LAI", "RPS", "LPS", "SAR"])
@pytest.mark.parametrize(
    "parts",
    [
        [(head(), 30), (trunk(lung=True), 40), (trunk(), 40)],
        [(trunk(), 40), (head(), 6)],  # the header's feet-first may be wrong
        [(head(), 4)],
        [(with_arms(head()), 20), (trunk(lung=True), 30)],
        [(on_a_table(with_arms(head())), 20), (trunk(lung=True), 30)],
        [(on_a_table(head()), 20)],
    ],
    ids=["whole body", "upside down", "few slices", "arms", "arms and table", "table"],
)
def test_head_is_seen_wherever_it_lies(parts, orientation):
    assert look_at(scan(*parts, orientation=orientation)).head_in_view is True


@pytest.mark.parametrize(
    "parts",
    [
        [(trunk(), 40)],
        [(trunk(lung=True), 20), (trunk(), 30)],
        [(trunk(), 30), (thighs(), 20)],
        [(on_a_table(trunk()), 30)],
        [(trunk(260, 180), 30)],
    ],
    ids=["abdomen", "lung bases", "thighs", "table", "slight adult"],
)
def test_trunk_has_no_head(parts):
    assert look_at(scan(*parts)).head_in_view is False


@pytest.mark.parametrize(
    "parts",
    [[(trunk(180, 130), 30)], [(plane(), 5)], [(trunk(), 20), (trunk(180, 130), 20)]],
    ids=["child", "nothing", "narrow end"],
)
def test_what_could_be_either_is_not_clear(parts):
    assert look_at(scan(*parts)).head_in_view is None


def test_regions_follow_lung_soft_slices_and_pelvic_bone():
    bases = look_at(scan((trunk(lung=True), 12), (trunk(), 30)))
    assert bases.lung_mm == pytest.approx(60)
    assert (bases.regions["chest"], bases.regions["abdomen"]) == (None, True)
    assert bases.regions["pelvis"] is False
    assert bases.columns()["regions"] == "abdomen"
    whole = look_at(scan((trunk(lung=True), 50), (trunk(), 40), (pelvis(), 30)))
    assert whole.columns()["regions"] == "chest-abdomen-pelvis"
    skull = look_at(scan((head(), 30)))
    assert skull.columns() == {
        "regions": "head",
        "head_in_view": True,
        "body_truncated": False,
    }


def test_region_that_the_header_names_and_nothing_shows_is_a_fault():
    view = look_at(scan((trunk(), 40)), header_regions=("chest",))
    assert view.faults == ("BodyPartExamined names the chest, which is not in view",)
    assert look_at(scan((trunk(), 40)), header_regions=("abdomen",)).faults == ()
    surprise = look_at(scan((head(), 10), (trunk(), 40)), header_regions=("abdomen",))
    assert "head" in surprise.faults[0]


@pytest.mark.parametrize(
    ("window", "sides"),
    [
        ((slice(0, 150), slice(0, 150)), ()),
        ((slice(0, 110), slice(0, 150)), ("left",)),
        ((slice(40, 150), slice(0, 150)), ("right",)),
        ((slice(0, 150), slice(0, 95)), ("front",)),
        ((slice(0, 150), slice(55, 150)), ("back",)),
    ],
)
def test_body_cut_by_the_field_is_told_by_its_side(window, sides):
    whole = scan((trunk(), 20))
    cut = whole.array[window]
    geometry = Geometry.from_spacing(cut.shape, (MM, MM, STEP))
    assert look_at(Volume(np.asfortranarray(cut), geometry)).truncated == sides
    turned = Volume(np.asfortranarray(cut), geometry).reoriented("RPS")
    assert look_at(turned).truncated == sides


def test_body_cut_by_a_round_field_is_truncated_and_a_table_at_the_edge_is_not():
    whole = scan((trunk(), 20))
    x = (np.arange(SIZE) - (SIZE - 1) / 2) * MM
    beyond = np.hypot(x[:, None], x[None, :]) > 130
    array = whole.array.copy(order="F")
    array[beyond] = -1000
    inside = slice(SIZE // 2 - 44, SIZE // 2 + 44)  # the field's 264 mm
    cropped = np.asfortranarray(array[inside, inside])
    geometry = Geometry.from_spacing(cropped.shape, (MM, MM, STEP))
    assert look_at(Volume(cropped, geometry)).truncated == ("left", "right")
    assert look_at(scan((on_a_table(trunk(300, 180)), 20))).truncated == ()


def test_cut_structures_name_the_end_where_the_mask_touches():
    shape = (6, 5, 4)
    liver, spleen, pancreas = (np.zeros(shape, bool) for _ in range(3))
    liver[2, 2, 0] = spleen[5, 2, 1:] = pancreas[2, 2, 1:3] = True
    masks = CodedMasks.from_masks({"liver": liver, "spleen": spleen, "pancreas": pancreas})
    standard = Geometry.from_spacing(shape, (3, 3, 5), orientation="LAI")
    assert cut_structures(masks, standard) == {"liver": ["top"], "spleen": ["left", "bottom"]}
    other = Geometry.from_spacing(shape, (3, 3, 5), orientation="RPS")
    assert cut_structures(masks, other) == {"liver": ["bottom"], "spleen": ["right", "top"]}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_phantoms_show_abdomen_and_pelvis_and_the_whole_pancreas(number):
    case = make_case(CohortPlan(cases=3, seed=5, size="small", tumor_rate=1.0), number)
    masks = CodedMasks.from_masks({s: case.mask(s) for s in STRUCTURES})
    view = look_at(case.ct, masks, ("abdomen",))
    assert view.head_in_view is False
    assert (view.regions["abdomen"], view.regions["pelvis"]) == (True, True)
    assert view.pancreas_in_view is True
    assert view.faults == ()
    assert "top" in view.cut["aorta"]
    by_voxels = look_at(case.ct)
    assert (by_voxels.regions["abdomen"], by_voxels.regions["pelvis"]) == (True, True)
    assert by_voxels.pancreas_in_view is None


def test_real_trunk_has_no_head_and_a_real_skull_is_one(shared_data):
    folder = shared_data / "totalsegmentator"
    whole = look_at(read_volume(folder / "example_ct.nii.gz"))
    assert (whole.head_in_view, whole.columns()["regions"]) == (False, "abdomen-pelvis")
    # Its hips reach the left and right edge of the picture.
    assert whole.truncated == ("left", "right")
    part = look_at(read_volume(folder / "example_ct_sm.nii.gz"))
    assert (part.head_in_view, part.columns()["regions"]) == (False, "abdomen")
    for name in ("philips_head/S2010", "philips_tilt"):
        files = [p for p in (shared_data / "dicom" / name).rglob("*") if p.is_file()]
        slices = [pydicom.dcmread(p, force=True) for p in files if p.name != "LICENSE"]
        slices = sorted(
            (s for s in slices if "ImagePositionPatient" in s and s.Rows == 512),
            key=lambda s: -float(s.ImagePositionPatient[2]),
        )
        stored = np.stack([s.pixel_array.T for s in slices], axis=2).astype(np.int16)
        hu = np.asfortranarray(stored + int(slices[0].RescaleIntercept))
        spacing = (*map(float, slices[0].PixelSpacing), 5.0)
        skull = Volume(hu, Geometry.from_spacing(hu.shape, spacing, orientation="LPI"))
        assert look_at(skull).head_in_view is True, name
