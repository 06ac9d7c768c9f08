from typing import Any

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from pantskit.core.errors import DatasetError, LabelError
from pantskit.core.labels import PANTS, LabelMap
from pantskit.networks.heads import Heads, heads_of_channels, heads_of_nnunet


def heads(labels: dict[str, Any], order: list[int] | None = None, meaning: str = "") -> Heads:
    label_map = LabelMap.parse(meaning) if meaning else None
    return heads_of_nnunet(LabelManager(labels, order), label_map=label_map, where="dataset.json")


def test_channels_of_ours_are_painted_with_the_release_ids() -> None:
    ours = heads_of_channels(("liver", "pancreatic_lesion"))
    assert ours.table.tolist() == [0, PANTS.id_of("liver"), PANTS.id_of("pancreatic_lesion")]
    assert ours.n_channels == 3
    assert ours.channels_of("pancreatic_lesion") == (2,)


def test_pancreas_of_a_softmax_is_all_channels_that_lie_in_it() -> None:
    ours = heads_of_channels(("pancreas", "pancreatic_lesion"))
    assert ours.channels_of("pancreas") == (1, 2)
    assert ours.table.tolist() == [0, PANTS.id_of("pancreas"), PANTS.id_of("pancreatic_lesion")]
    # No pancreas is known where no channel is one.
    assert heads_of_channels(("liver", "pancreatic_lesion")).structures == (
        "liver",
        "pancreatic_lesion",
    )


def test_channels_of_regions_begin_without_a_background() -> None:
    ours = heads_of_channels(("pancreas", "pancreatic_lesion"), regions=True)
    assert (ours.n_channels, ours.regions) == (2, True)
    assert ours.channels_of("pancreas") == (0,)
    assert ours.channels_of("pancreatic_lesion") == (1,)


def test_names_are_read_with_their_synonyms_and_others_are_named() -> None:
    found = heads({"background": 0, "Left Kidney": 1, "elbow": 2, "ignore": 3})
    assert found.structures == ("kidney_left",)
    assert found.unmapped == ("elbow",)
    assert found.table.tolist() == [0, PANTS.id_of("kidney_left"), 0]


def test_id_of_several_structures_is_painted_with_the_innermost() -> None:
    found = heads({"background": 0, "a": 1, "b": 2}, meaning="1=pancreas,2=pancreatic_lesion")
    assert found.table.tolist() == [0, PANTS.id_of("pancreas"), PANTS.id_of("pancreatic_lesion")]
    assert found.channels_of("pancreas") == (1, 2)  # a container's probability is the sum


def test_a_network_of_the_lesion_alone_does_not_know_the_pancreas() -> None:
    for meaning in ("1=pancreatic_lesion", ""):
        found = heads({"background": 0, "pancreatic_lesion": 1}, meaning=meaning)
        assert found.structures == ("pancreatic_lesion",)
        assert found.channels_of("pancreas") == ()
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    regions = heads(labels, [1, 2], meaning="1=pancreatic_lesion,2=pancreatic_lesion")
    assert regions.structures == ("pancreatic_lesion",)


def test_names_say_as_much_as_a_label_map() -> None:
    named = heads({"background": 0, "pancreas": 1, "pancreatic_lesion": 2})
    assert named.channels_of("pancreas") == (1, 2)
    assert named.table.tolist() == [0, PANTS.id_of("pancreas"), PANTS.id_of("pancreatic_lesion")]


def test_region_is_what_its_ids_have_in_common() -> None:
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    found = heads(labels, [1, 2], meaning="1=pancreas,2=pancreatic_lesion")
    assert found.regions
    assert found.names[1] == ("pancreas",)
    assert found.channels_of("pancreatic_lesion") == (1,)


def test_tumour_without_an_organ_is_refused() -> None:
    with pytest.raises(LabelError, match=r"cancer.*--label-map"):
        heads({"background": 0, "pancreas": 1, "cancer": 2})


def test_ids_with_gaps_are_refused() -> None:
    with pytest.raises(DatasetError, match="without gaps"):
        heads({"background": 0, "liver": 1, "spleen": 3})


def test_a_list_of_one_id_is_refused_by_name() -> None:
    with pytest.raises(DatasetError, match=r"'spleen' is a list of one id"):
        heads({"background": 0, "liver": 1, "spleen": [2]})
