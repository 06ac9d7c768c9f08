import pytest

from pantskit.core.errors import ConfigError
from pantskit.core.labels import STRUCTURES
from pantskit.train.labels import choose_channels


def test_structure_annotated_in_some_cases_only_gets_no_channel() -> None:
    annotated = {"a": ("liver", "spleen"), "b": ("liver",), "c": ("liver", "spleen")}
    channels = choose_channels(annotated, "28")
    assert channels.structures == ("liver",)
    assert channels.partial == {"spleen": 2}
    assert len(channels.absent) == 26
    assert any("spleen (2)" in line for line in channels.describe(3))


def test_structures_annotated_everywhere_keep_the_order_of_the_28() -> None:
    everything = tuple(reversed(STRUCTURES))
    assert choose_channels({"a": everything}, "28").structures == tuple(STRUCTURES)


def test_two_class_scheme_is_pancreas_and_lesion() -> None:
    annotated = {"a": tuple(STRUCTURES), "b": ("pancreas", "pancreatic_lesion", "liver")}
    channels = choose_channels(annotated, "2")
    assert channels.structures == ("pancreas", "pancreatic_lesion")
    assert channels.partial == {}


def test_two_class_scheme_needs_a_pancreas_in_every_case() -> None:
    with pytest.raises(ConfigError, match="in 1 of 2"):
        choose_channels({"a": ("pancreas",), "b": ("liver",)}, "2")


def test_cases_without_a_structure_in_common_are_refused() -> None:
    with pytest.raises(ConfigError, match="all 2 training cases"):
        choose_channels({"a": ("pancreas",), "b": ("liver",)}, "28")


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match="28 or 2"):
        choose_channels({"a": ("liver",)}, "104")
