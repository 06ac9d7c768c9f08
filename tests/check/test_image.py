"""The CT as a stack of slices, from slices of noise whose neighbours are alike."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import faults

from pantskit.check.read import CaseFiles
from pantskit.core.dataset import Case
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume

SHAPE = (60, 66, 40)


def stack():
    """Each slice is the one below, moved by a row; it has air, fat, flesh and bone."""
    rows = np.random.default_rng(3).integers(-100, 100, (SHAPE[0], SHAPE[1] + 60))
    rows[:, ::11], rows[:, 1::11] = -1000, 900
    return np.stack([rows[:, k : k + SHAPE[1]] for k in range(SHAPE[2])], axis=2).astype(np.int16)


def files(array, orientation="LAI"):
    grid = Geometry.from_spacing(array.shape, (3, 3, 3), orientation="RAS")
    ct = Volume(array, grid).reoriented(orientation)
    return CaseFiles(Case("case", "train", None, None, None), ct=ct)


RULES = ("slice-repeated", "slice-blank", "slice-missing", "hu-clipped")


def told(array, orientation="LAI"):
    view = files(array, orientation)
    return {name: found for name in RULES if (found := faults(name, view))}


def test_sound_stack_is_not_told_of():
    assert told(stack()) == {}
    padded = stack()
    padded[:, :, :3] = padded[:, :, -2:] = -1000
    assert told(padded) == {}


@pytest.mark.parametrize("orientation", ["LAI", "RAS", "SLP"])
def test_repeated_slice_is_told_with_its_place_in_the_file(orientation):
    array = stack()
    array[:, :, 21] = array[:, :, 20]
    (fault,) = told(array, orientation)["slice-repeated"]
    assert fault.value == 1
    planes = {orientation.index(c): c for c in "IS" if c in orientation}
    ((axis, code),) = planes.items()
    assert fault.at[axis] == (21 if code == "S" else SHAPE[2] - 1 - 21)


def test_blank_slice_inside_the_scan_is_told_once():
    array = stack()
    array[:, :, 20] = -1000
    found = told(array)
    assert list(found) == ["slice-blank"]
    assert "1 slice inside the scan holds one value (-1000)" in found["slice-blank"][0].message


def smooth():
    """A slanting rod in fat: neighbouring slices differ by a little at its edge."""
    i, j, k = np.indices((90, 90, 40))
    rod = (i - 20 - k) ** 2 + (j - 45) ** 2 <= 144
    return np.where(rod, 60, -100).astype(np.int16)


def test_slices_that_were_left_out_are_told():
    array = smooth()
    assert "slice-missing" not in told(array)
    short = np.asfortranarray(array[:, :, np.r_[:15, 20:40]])
    (fault,) = told(short)["slice-missing"]
    assert fault.at == (44, 45, 35 - 1 - 15)  # the middle of the first slice beyond, in LAI
    assert fault.value > 3


def test_box_that_shows_next_to_nothing_is_not_judged():
    short = smooth()[20:60, 40:50][:, :, np.r_[:15, 20:40]]
    assert "slice-missing" not in told(np.asfortranarray(short))


def test_display_window_in_place_of_hu_is_told_at_the_end_that_is_cut():
    (fault,) = told(np.clip(stack(), -160, 240))["hu-clipped"]
    assert "begin at -160" in fault.message
    assert "end at 240" in fault.message
    (fault,) = told(np.clip(stack(), -2000, 240))["hu-clipped"]
    assert "begin" not in fault.message
    assert "hu-clipped" not in told(np.clip(stack() * 3, -1000, 1000))  # the standard's own


def test_ct_that_is_not_in_hu_is_told_by_another_rule():
    view = files(stack())
    view.value_problem = "no HU"
    assert all(faults(name, view) == [] for name in RULES)


@pytest.mark.parametrize("shape", [(1, 1, 9), (3, 3, 2), (4, 5, 1), (12, 12, 12), (30, 30, 20)])
def test_crop_of_noise_is_not_told_of_however_small(shape):
    noise = np.random.default_rng(5).normal(60, 15, shape).round().astype(np.int16)
    assert told(noise) == {}
