"""All organs too large or too small at once."""

from __future__ import annotations

import pytest
from blocks import block, faults, scan

# 1000, 192 and twice 154 ml with voxels of 64 mm3
ORGANS = {
    "liver": block((30, 55), (5, 30), (60, 85)),
    "spleen": block((5, 20), (5, 25), (60, 70)),
    "kidney_left": block((5, 20), (5, 15), (30, 46)),
    "kidney_right": block((40, 55), (5, 15), (30, 46)),
}


@pytest.mark.parametrize(("times", "told"), [(1, False), (1.4, False), (2, True), (0.5, True)])
def test_spacing_that_is_wrong_along_all_axes_is_told(times, told):
    view = scan(ORGANS, spacing=(4 * times, 4 * times, 4 * times))
    found = faults("scale", view)
    assert bool(found) == told
    if told:
        assert f"too {'large' if times > 1 else 'small'}" in found[0].message
        assert "the spacing of" in found[0].message


def test_few_organs_say_nothing_of_the_scale():
    few = {s: ORGANS[s] for s in ("liver", "spleen")}
    assert faults("scale", scan(few, spacing=(40, 40, 40))) == []


def test_organs_that_the_view_cuts_may_be_small():
    cut = {s: m[:, :, 66:] for s, m in ORGANS.items() if s in ("liver", "spleen")}
    cut |= {s: m[:, :, 30:64] for s, m in ORGANS.items() if "kidney" in s}
    assert all(m.shape[2] == 34 for m in cut.values())
    assert faults("scale", scan(cut, spacing=(1, 1, 4))) == []
