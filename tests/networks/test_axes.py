import numpy as np
import pytest

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.networks.axes import axis_name, to_network


def test_network_array_has_reversed_axes_and_spacing() -> None:
    array = np.zeros((4, 3, 2), np.int16)
    array[1, 2, 0] = 7
    volume = Volume(array, Geometry.from_spacing((4, 3, 2), (1.0, 2.0, 3.0)))
    image, spacing = to_network(volume, "LAI")
    assert image.shape == (2, 3, 4)
    assert image[0, 2, 1] == 7
    assert np.shares_memory(image, array)
    assert spacing == [3.0, 2.0, 1.0]


def test_every_orientation_of_one_body_gives_one_network_array() -> None:
    array = np.arange(4 * 3 * 2, dtype=np.int16).reshape(4, 3, 2)
    volume = Volume(array, Geometry.from_spacing((4, 3, 2), (1.0, 2.0, 3.0), orientation="LAI"))
    image, spacing = to_network(volume, "LAI")
    for orientation in ("RAS", "LPS", "PIR", "SLA"):
        turned, turned_spacing = to_network(volume.reoriented(orientation), "LAI")
        np.testing.assert_array_equal(turned, image)
        assert turned_spacing == pytest.approx(spacing)


def test_axes_of_the_network_are_named_through_the_transpose() -> None:
    assert [axis_name(a, (0, 1, 2)) for a in range(3)] == ["k", "j", "i"]
    assert [axis_name(a, (2, 0, 1)) for a in range(3)] == ["i", "k", "j"]
