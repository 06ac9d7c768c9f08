"""Femoral heads made by hand: a ball, a neck and a shaft, whole or cut at any angle."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from blocks import faults

from pantskit.check.balls import upper_balls
from pantskit.check.region import Region
from pantskit.check.scan import Scan
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LabelMap
from pantskit.core.labelsets import CaseLabels

SHAPE = (80, 30, 50)
SPACING = (3.0, 3.0, 4.0)  # a field of 240 x 90 x 200 mm
GRID = Geometry.from_spacing(SHAPE, SPACING, orientation="RAS")
RADIUS = 23.0
HEAD = np.array([80.0, 48.0, 140.0])
TROCHANTER = np.array([38.0, 42.0, 110.0])
ALONG_NECK = (TROCHANTER - HEAD) / np.linalg.norm(TROCHANTER - HEAD)
# Unit vectors (3-4-5 and 2-3-6 triples), none within 90 degrees of the neck.
TOWARD_HIP = [(1, 0, 0), (0, 0, 1), (0.6, 0, 0.8), (0, -0.8, 0.6), (6 / 7, 3 / 7, -2 / 7)]


@cache
def millimetres():
    """(i, j, k, 3) positions of voxels from the first one."""
    return np.stack(np.indices(SHAPE), axis=-1) * np.array(SPACING)


def rod(a, b, radius):
    """Voxels within a radius of a line from a to b."""
    way = b - a
    part = np.clip((millimetres() - a) @ way / (way @ way), 0, 1)
    return np.linalg.norm(millimetres() - a - part[..., None] * way, axis=-1) <= radius


def beyond(normal, mm):
    """Voxels at the head on the far side of a plane, some mm from its centre."""
    away = millimetres() - HEAD
    return (away @ np.array(normal) > mm) & (np.linalg.norm(away, axis=-1) < RADIUS + 8)


@cache
def femur(radius=RADIUS):
    """Of the left side: the body's middle lies toward larger i."""
    ball = np.linalg.norm(millimetres() - HEAD, axis=-1) <= radius
    neck = rod(HEAD, TROCHANTER, 15)
    return ball | neck | rod(TROCHANTER, np.array([40.0, 40.0, 20.0]), 17)


def scan(left, *, right=True, orientation="RAS"):
    """A left femur and, mirrored, a whole right one, in a grid of any orientation."""
    masks = {"femur_left": left} | ({"femur_right": femur()[::-1]} if right else {})
    stored = GRID.reoriented(orientation)
    turn = stored.axis_map("RAS")
    flips = tuple(slice(None, None, int(flip)) for flip in turn[:, 1])
    axes = [int(axis) for axis in turn[:, 0]]
    return Scan.from_masks("case", stored, {s: m.transpose(axes)[flips] for s, m in masks.items()})


def told(view):
    return [f.structure for f in faults("femur-head", view)]


def test_ball_is_found_where_it_is_and_of_its_size():
    region = Region(np.asfortranarray(femur()), (5, 6, 7))
    best = max(upper_balls(region, SPACING), key=lambda b: b.score)
    centre = (best.centre - (5, 6, 7)) * SPACING
    assert np.linalg.norm(centre - HEAD) < 2
    assert best.radius_mm == pytest.approx(RADIUS, abs=2)
    assert best.toward @ ALONG_NECK > 0.8
    assert best.lost < 0.02
    # A neck of 15 mm takes (1 - cos asin(15 / 23)) / 2 = 12 % of the ball's surface.
    assert best.whole == pytest.approx(0.88, abs=0.06)


@pytest.mark.parametrize("radius", [20.0, 23.0, 27.0])
def test_whole_heads_of_all_sizes_are_no_fault(radius):
    assert told(scan(femur(radius))) == []
    assert told(scan(femur(radius), right=False)) == []


@pytest.mark.parametrize("normal", TOWARD_HIP)
@pytest.mark.parametrize("share", [1 / 3, 1 / 2, 2 / 3])
def test_head_cut_by_a_plane_at_any_angle_is_told(normal, share):
    cut = femur() & ~beyond(normal, RADIUS * (1 - 2 * share))
    assert told(scan(cut)) == ["femur_left"]


@pytest.mark.parametrize("mm", [-5, 10, 25])
def test_head_left_out_down_to_the_neck_is_told(mm):
    stump = femur() & ~beyond(-ALONG_NECK, -mm)
    assert told(scan(stump)) == ["femur_left"]


def test_both_heads_cut_are_both_told():
    cut = femur() & ~beyond((0.6, 0, 0.8), 4)
    masks = {"femur_left": cut, "femur_right": cut[::-1]}
    assert set(told(Scan.from_masks("case", GRID, masks))) == {"femur_left", "femur_right"}


@pytest.mark.parametrize("orientation", ["LPS", "LAI", "ASR"])
def test_cut_is_told_in_the_world_and_shown_where_it_is(orientation):
    normal = np.array([0.6, 0, 0.8])
    cut = femur() & ~beyond(normal, 4)
    assert told(scan(femur(), orientation=orientation)) == []
    view = scan(cut, orientation=orientation)
    (fault,) = faults("femur-head", view)
    first = GRID.to_world(np.zeros(3))
    shown = view.source.to_world(np.array(fault.at)) - first
    assert np.linalg.norm(shown - (HEAD + 14 * normal)) < 10


def test_dent_of_a_voxel_and_a_rough_surface_are_no_cut():
    rng = np.random.default_rng(7)
    away = np.linalg.norm(millimetres() - HEAD, axis=-1)
    dented = femur() & ~(np.linalg.norm(millimetres() - HEAD - (RADIUS, 0, 0), axis=-1) < 6)
    rough = femur() & ~((away > RADIUS - 3) & (away <= RADIUS) & (rng.random(SHAPE) < 0.25))
    assert told(scan(dented)) == []
    assert told(scan(rough)) == []


@pytest.mark.parametrize("slices", [9, 10, 12, 15])
def test_scan_that_begins_at_the_heads_judges_what_it_shows(slices):
    top = int(np.flatnonzero(femur().any(axis=(0, 1)))[-1]) + 1
    shape = (SHAPE[0], SHAPE[1], SHAPE[2] - top + slices)

    def view(mask):
        lower = {"femur_left": mask, "femur_right": femur()[::-1]}
        geometry = Geometry.from_spacing(shape, SPACING, orientation="RAS")
        return Scan.from_masks(
            "case", geometry, {s: m[:, :, top - slices :] for s, m in lower.items()}
        )

    assert told(view(femur())) == []
    assert told(view(femur() & ~beyond((1, 0, 0), 0))) == ["femur_left"]


def test_slices_too_far_apart_to_tell_are_not_judged():
    coarse = femur()[:, :, ::3]
    cut = (femur() & ~beyond((1, 0, 0), 0))[:, :, ::3]
    for mask in (coarse, cut):
        view = Scan.from_masks(
            "case",
            Geometry.from_spacing(coarse.shape, (3, 3, 12), orientation="RAS"),
            {"femur_left": mask, "femur_right": coarse[::-1]},
        )
        assert told(view) == []


def test_heads_of_real_patients_are_whole_and_a_third_cut_off_is_told(shared_data):
    path = shared_data / "totalsegmentator" / "example_seg_fast_force_split.nii.gz"
    labels = CaseLabels("case", map_path=path, label_map=LabelMap.parse("totalsegmentator"))
    masks = dict(labels.masks())
    femurs = {s: masks[s] for s in ("femur_left", "femur_right")}
    view = Scan.from_masks("case", labels.geometry, femurs)
    assert told(view) == []
    cut = femurs["femur_left"].copy()
    innermost = int(np.flatnonzero(cut.any(axis=(1, 2)))[-1])  # the map is RAS
    cut[innermost - 5 :] = False  # 18 of some 48 mm
    assert told(Scan.from_masks("case", labels.geometry, femurs | {"femur_left": cut})) == [
        "femur_left"
    ]
