from __future__ import annotations

import numpy as np
import pytest

from pantskit.core.codedmasks import CodedMasks, bounding_box
from pantskit.core.errors import LabelError
from pantskit.core.labels import LABEL_SPACES, PANTS, STRUCTURES, LabelMap, Mask

SHAPE = (5, 4, 6)


def box(*index: slice | int) -> Mask:
    mask = np.zeros(SHAPE, np.bool_, order="F")
    if index:
        mask[index] = True
    return mask


def random_masks(
    seed: int, count: int = 10, shape: tuple[int, int, int] = SHAPE
) -> dict[str, Mask]:
    """Boxes that overlap in every way, and an empty one."""
    rng = np.random.default_rng(seed)
    masks = {}
    for structure in rng.permutation(list(STRUCTURES))[:count].tolist():
        mask = np.zeros(shape, np.bool_, order="C" if rng.random() < 0.3 else "F")
        ends = [np.sort(rng.integers(0, n + 1, 2)) for n in shape]
        mask[tuple(slice(a, b) for a, b in ends)] = True
        masks[structure] = mask & (rng.random(shape) < 0.9)
    masks[structure] = np.zeros(shape, np.bool_)
    return masks


def test_a_voxel_of_two_masks_is_in_both() -> None:
    coded = CodedMasks.from_masks({"liver": box(slice(0, 3)), "aorta": box(2), "spleen": box()})
    assert coded.codes.dtype == np.uint8
    assert coded.counts == {"aorta": 24, "liver": 72, "spleen": 0}
    assert {coded.sets[c] for c in np.unique(coded.codes)} == {
        frozenset(),
        frozenset({"liver"}),
        frozenset({"liver", "aorta"}),
    }
    np.testing.assert_array_equal(coded.mask("liver"), box(slice(0, 3)))
    np.testing.assert_array_equal(coded.mask("aorta"), box(2))


def test_empty_is_not_absent() -> None:
    coded = CodedMasks.empty(SHAPE)
    coded.add("spleen", box())
    assert coded.structures == ("spleen",)
    spleen = coded.mask("spleen")
    assert spleen is not None
    assert not spleen.any()
    assert coded.mask("liver") is None
    assert coded.slices("spleen") == range(0)


def test_masks_of_one_structure_are_united() -> None:
    coded = CodedMasks.empty(SHAPE)
    coded.add("liver", box(0))
    coded.add("liver", box(slice(0, 2)))
    assert coded.counts == {"liver": 48}
    np.testing.assert_array_equal(coded.mask("liver"), box(slice(0, 2)))


def test_a_part_of_a_mask_goes_where_it_begins() -> None:
    coded = CodedMasks.empty(SHAPE)
    coded.add("aorta", box(2))
    part = np.zeros((3, 2, 2), np.bool_)
    part[1:, 1, 0] = True
    coded.add("liver", part, (1, 2, 4))
    np.testing.assert_array_equal(coded.mask("liver"), box(slice(2, 4), 3, 4))
    np.testing.assert_array_equal(coded.mask("aorta"), box(2))
    with pytest.raises(LabelError, match="one shape"):
        coded.add("liver", part)


@pytest.mark.parametrize("seed", range(20))
def test_masks_counts_map_and_exactness_are_those_of_the_masks_themselves(seed: int) -> None:
    masks = random_masks(seed)
    coded = CodedMasks.from_masks(masks)
    assert coded.counts == {s: int(m.sum()) for s, m in masks.items()}
    for structure, mask in masks.items():
        found = coded.mask(structure)
        assert found is not None
        assert found.flags.f_contiguous
        np.testing.assert_array_equal(found, mask)
        ks = coded.slices(structure)
        assert not mask.any() if not ks else mask[:, :, ks[0]].any() and mask[:, :, ks[-1]].any()
        assert mask[:, :, ks.start : ks.stop].sum() == mask.sum()
    for space in LABEL_SPACES.values():
        combined = space.combine(masks)
        np.testing.assert_array_equal(coded.combined(space), combined)
        assert set(coded.exact(space)) == set(space.exact(combined, masks))


def test_a_set_without_voxels_left_does_not_make_the_map_inexact() -> None:
    coded = CodedMasks.empty(SHAPE)
    coded.add("liver", box(0))  # becomes liver with aorta everywhere: liver alone has no voxel
    coded.add("aorta", box(0))
    masks = {"liver": box(0), "aorta": box(0)}
    assert coded.exact(PANTS) == [*PANTS.exact(PANTS.combine(masks), masks)] == ["aorta"]


def test_more_than_256_sets_take_two_bytes_and_stay_right() -> None:
    shape = (8, 8, 32)
    rng = np.random.default_rng(0)
    masks = {s: rng.random(shape) < 0.5 for s in [*STRUCTURES][:12]}
    coded = CodedMasks.from_masks(masks)
    assert coded.codes.dtype == np.uint16
    for structure, mask in masks.items():
        np.testing.assert_array_equal(coded.mask(structure), mask)
    np.testing.assert_array_equal(coded.combined(PANTS), PANTS.combine(masks))


def test_uniting_grows_a_structure_by_what_it_lacked() -> None:
    coded = CodedMasks.from_masks({"pancreas": box(0), "pancreatic_lesion": box(slice(0, 2), 0)})
    assert coded.unite("pancreas", ["pancreatic_lesion", "pancreatic_duct"]) == 6
    np.testing.assert_array_equal(coded.mask("pancreas"), box(0) | box(slice(0, 2), 0))
    np.testing.assert_array_equal(coded.mask("pancreatic_lesion"), box(slice(0, 2), 0))
    assert coded.unite("pancreas", ["pancreatic_lesion"]) == 0


def test_a_structure_is_made_of_its_parts() -> None:
    parts = {"pancreas_head": box(0), "pancreas_body": box(1), "pancreas_tail": box(2)}
    coded = CodedMasks.from_masks(parts)
    assert coded.unite("pancreas", parts) == 72
    np.testing.assert_array_equal(coded.mask("pancreas"), box(slice(0, 3)))


def test_what_is_added_after_uniting_keeps_the_union() -> None:
    coded = CodedMasks.from_masks({"pancreas_head": box(0), "pancreas_tail": box(1)})
    coded.unite("pancreas", ["pancreas_head", "pancreas_tail"])
    coded.add("duodenum", box(slice(1, 3)))
    assert coded.counts == {
        "duodenum": 48,
        "pancreas": 48,
        "pancreas_head": 24,
        "pancreas_tail": 24,
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_label_maps_ids_become_the_codes(dtype: type[np.unsignedinteger]) -> None:
    array = np.zeros(SHAPE, dtype, order="F")
    array[0], array[1], array[2] = 4, 2, 9
    label_map = LabelMap.build(
        "made",
        {4: ("pancreas",), 2: ("pancreatic_lesion",), 7: ("liver",)},
        annotated=("pancreas", "spleen"),
        unmapped={9: "bone"},
    )
    coded = CodedMasks.from_label_map(array, label_map)
    assert coded.counts == {"pancreas": 48, "pancreatic_lesion": 24, "spleen": 0}
    np.testing.assert_array_equal(coded.mask("pancreas"), box(slice(0, 2)))
    assert coded.mask("liver") is None


def test_an_unknown_label_is_refused() -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[0] = 3
    with pytest.raises(LabelError, match=r"case_1: labels \[3\] are not in the label map"):
        CodedMasks.from_label_map(array, LabelMap.parse("1=liver"), name="case_1")


def test_a_label_map_that_cannot_be_written_to_is_copied_first() -> None:
    array = np.zeros(SHAPE, np.uint8, order="F")
    array[0] = 1
    array.flags.writeable = False
    coded = CodedMasks.from_label_map(array, LabelMap.parse("1=liver"))
    assert coded.codes is array
    coded.add("spleen", box(1))
    assert coded.counts == {"liver": 24, "spleen": 24}
    assert array.max() == 1


def test_flipped_codes_are_flipped_masks() -> None:
    masks = random_masks(3)
    moved = CodedMasks.from_masks(masks).mapped(lambda codes: codes[::-1, :, ::-1])
    for structure, mask in masks.items():
        np.testing.assert_array_equal(moved.mask(structure), mask[::-1, :, ::-1])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({}, "masks of one shape"),
        ({"liver": box(), "spleen": np.zeros((2, 2, 2), np.bool_)}, "masks of one shape"),
        ({"gut": box()}, "gut: none of the 28 structures"),
    ],
)
def test_masks_that_do_not_go_together_are_refused(masks: dict[str, Mask], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        CodedMasks.from_masks(masks)


def test_a_bounding_box_touches_the_mask_on_every_side() -> None:
    mask = box(slice(1, 3), slice(2, 4), 5)
    assert bounding_box(mask) == (slice(1, 3), slice(2, 4), slice(5, 6))
    assert bounding_box(box()) is None
    assert bounding_box(box(slice(None))) == (slice(0, 5), slice(0, 4), slice(0, 6))


@pytest.mark.parametrize("flip", [(0,), (1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
def test_the_order_in_memory_does_not_matter(
    flip: tuple[int, ...], axes: tuple[int, int, int]
) -> None:
    mask = np.flip(box(slice(1, 3), slice(2, 4), 5).transpose(axes), flip)
    found = bounding_box(mask)
    assert found is not None
    assert mask[found].all()
    assert mask[found].sum() == mask.sum()
    coded = CodedMasks.from_masks({"liver": mask})
    np.testing.assert_array_equal(coded.mask("liver"), mask)
