import pytest

from pantskit.train.labels import Channels
from pantskit.train.partial import (
    AnnotationTable,
    allowed_channels,
    starting_shares,
    without_unknown_regions,
)


def allowed(structures: tuple[str, ...], annotated: tuple[str, ...]) -> dict[str, set[str]]:
    """Label to the other channels it allows, by name."""
    names = ("background", *structures)
    table = allowed_channels(structures, annotated)
    assert table.diagonal().all()
    return {
        names[label]: {names[c] for c in range(len(names)) if table[label, c] and c != label}
        for label in range(len(names))
        if table[label].sum() > 1
    }


def test_unannotated_structure_may_be_anywhere_in_the_background() -> None:
    assert allowed(("liver", "spleen", "aorta"), ("liver", "aorta")) == {"background": {"spleen"}}


def test_complete_annotation_allows_each_label_its_own_channel_only() -> None:
    assert allowed(("liver", "spleen"), ("liver", "spleen")) == {}


def test_unannotated_member_lies_in_its_annotated_container_and_not_outside() -> None:
    structures = ("pancreas", "pancreas_head", "pancreatic_lesion", "liver")
    assert allowed(structures, ("pancreas", "liver")) == {
        "pancreas": {"pancreas_head", "pancreatic_lesion"}
    }


def test_unannotated_lesion_hides_under_what_was_painted_before_it() -> None:
    structures = ("pancreas", "pancreas_head", "pancreatic_lesion")
    # Without a whole pancreas the lesion may lie in the head or elsewhere; the rest of the
    # pancreas is background to this case.
    assert allowed(structures, ("pancreas_head",)) == {
        "background": {"pancreas", "pancreatic_lesion"},
        "pancreas_head": {"pancreatic_lesion"},
    }
    # The head was painted before the lesion and cannot show through it.
    assert allowed(structures, ("pancreas", "pancreatic_lesion")) == {"pancreas": {"pancreas_head"}}


def test_table_gives_the_rows_of_a_batch_and_knows_when_nothing_is_left_open() -> None:
    cases = {"a": ("liver", "spleen"), "b": ("spleen",)}
    table = AnnotationTable(Channels(("liver", "spleen"), False, cases))
    assert table.of(["b", "a", "b"]).shape == (3, 3, 3)
    assert table.of(["b"])[0].tolist() == [[True, True, False], [0, 1, 0], [0, 0, 1]]
    assert not table.complete
    assert AnnotationTable(Channels(("liver", "spleen"), False, {"a": cases["a"]})).complete


def test_table_of_regions_is_a_yes_or_no_a_channel() -> None:
    cases = {"a": ("pancreas", "pancreatic_lesion"), "b": ("pancreas",)}
    table = AnnotationTable(Channels(("pancreas", "pancreatic_lesion"), True, cases))
    assert table.of(["a", "b"]).tolist() == [[True, True], [True, False]]
    assert not table.complete


def test_patches_are_not_drawn_around_regions_that_are_not_annotated() -> None:
    structures = ("pancreas", "pancreas_head", "pancreatic_lesion")
    places = {(1, 2, 3): ["all"], 2: ["head"], 3: ["lesion"]}
    assert without_unknown_regions(places, structures, ("pancreas_head", "pancreatic_lesion")) == {
        (1, 2, 3): [],
        2: ["head"],
        3: ["lesion"],
    }
    assert without_unknown_regions(places, structures, structures) == places


def test_shares_are_those_of_the_cases_that_annotate() -> None:
    cases = {"a": ("pancreas", "pancreatic_lesion"), "b": ("pancreas",)}
    voxels = {
        "a": {"pancreas": 30, "pancreatic_lesion": 10},
        "b": {"pancreas": 40, "pancreatic_lesion": 0},
    }
    sizes = {"a": 100, "b": 300}
    structures = ("pancreas", "pancreatic_lesion")
    softmax = starting_shares(Channels(structures, False, cases), voxels, sizes)
    assert softmax == pytest.approx([1 - 70 / 400 - 0.1, 70 / 400, 0.1])
    # The region of the pancreas holds its lesion.
    regions = starting_shares(Channels(structures, True, cases), voxels, sizes)
    assert regions == pytest.approx([80 / 400, 0.1])
