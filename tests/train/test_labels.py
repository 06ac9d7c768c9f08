import pytest

from pantskit.core.errors import ConfigError
from pantskit.core.labels import PAINT_ORDER, STRUCTURES
from pantskit.train.label_schemes import Scheme
from pantskit.train.labels import choose_channels

ALL = Scheme.read("28")
TUMOR = Scheme.read("pancreas-tumor")
REGIONS = Scheme.read("pancreas-regions")


def test_structure_annotated_in_some_cases_has_a_channel_and_is_named() -> None:
    annotated = {"a": ("liver", "spleen"), "b": ("liver",), "c": ("liver", "spleen")}
    channels = choose_channels(annotated, ALL)
    assert channels.structures == ("liver", "spleen")
    assert channels.annotated == annotated
    assert channels.partial == {"spleen": 2}
    assert len(channels.absent) == 26
    assert any("spleen (2)" in line for line in channels.describe())


def test_structures_of_28_keep_their_order() -> None:
    everything = tuple(reversed(STRUCTURES))
    channels = choose_channels({"a": everything}, ALL)
    assert channels.structures == tuple(STRUCTURES)
    assert not channels.partial


def test_two_classes_come_from_cases_that_annotate_more() -> None:
    annotated = {"a": tuple(STRUCTURES), "b": ("pancreas", "pancreatic_lesion", "liver")}
    channels = choose_channels(annotated, TUMOR)
    assert channels.structures == ("pancreas", "pancreatic_lesion")
    assert channels.annotated["b"] == ("pancreas", "pancreatic_lesion")
    assert not channels.partial


def test_case_that_annotates_nothing_of_the_scheme_tells_nothing() -> None:
    annotated = {"a": ("pancreas", "pancreatic_lesion"), "b": ("liver",)}
    assert set(choose_channels(annotated, TUMOR).annotated) == {"a"}


def test_scheme_whose_required_structure_nobody_annotates_is_refused() -> None:
    with pytest.raises(ConfigError, match="none of the 2 training cases annotates pancreatic_les"):
        choose_channels({"a": ("pancreas",), "b": ("liver",)}, TUMOR)
    with pytest.raises(ConfigError, match="any of its structures"):
        choose_channels({"a": ()}, ALL)


def test_regions_are_in_the_paint_order() -> None:
    channels = choose_channels({"a": tuple(STRUCTURES)}, REGIONS)
    assert channels.regions
    places = [PAINT_ORDER.index(s) for s in channels.structures]
    assert places == sorted(places)
    assert channels.structures[0] == "pancreas"
    assert channels.structures[-1] == "pancreatic_lesion"


def test_regions_that_do_not_overlap_are_a_softmax() -> None:
    assert not choose_channels({"a": ("pancreas",)}, REGIONS).regions
