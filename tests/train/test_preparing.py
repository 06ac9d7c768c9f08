from typing import Any

import numpy as np
import pytest
from label_plans import REGIONS, plans_of
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from scipy.ndimage import gaussian_filter, zoom

from pantskit.core.errors import ImageError
from pantskit.networks.plans import Plans
from pantskit.train.preparing import (
    Prepared,
    foreground_places,
    left_to_nnunet,
    prepare_arrays,
    resample_labels,
)

FINE, THICK = [1.5, 1.5, 1.5], [3.0, 0.9, 0.9]


def patient(shape: tuple[int, int, int], n_labels: int = 28) -> tuple[Any, Any]:
    """A noisy CT, and blobs of every label beside each other and as single voxels."""
    rng = np.random.default_rng(0)
    image = (gaussian_filter(rng.standard_normal(shape), 1.0) * 1500).astype(np.int16)
    coarse = rng.integers(0, n_labels + 1, [max(1, n // 5) for n in shape])
    labels = zoom(coarse, [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=0)
    speckled = rng.random(shape) < 0.05
    labels[speckled] = rng.integers(0, n_labels + 1, int(speckled.sum()))
    assert labels.shape == shape
    return image, labels.astype(np.uint8)


def by_nnunet(image: Any, labels: Any, spacing: list[float], plans: Plans) -> Prepared:
    data, found, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        image[None].astype(np.float32), labels[None].astype(np.int16), {"spacing": spacing},
        plans.manager, plans.configuration, plans.dataset_json,
    )  # fmt: skip
    return Prepared(data, found, properties)


def require_equal(ours: Prepared, theirs: Prepared) -> None:
    assert (ours.data.dtype, ours.labels.dtype) == (np.float32, np.int16)
    np.testing.assert_allclose(ours.data, theirs.data, atol=1e-4)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    mine, other = dict(ours.properties), dict(theirs.properties)
    places, their_places = mine.pop("class_locations"), other.pop("class_locations")
    assert list(places) == list(their_places)
    for key in places:
        np.testing.assert_array_equal(places[key], their_places[key])
    assert [[int(v) for v in side] for side in other.pop("bbox_used_for_cropping")] == mine.pop(
        "bbox_used_for_cropping"
    )
    assert mine == other


@pytest.mark.parametrize(
    ("shape", "spacing", "target"),
    [
        ((30, 40, 44), [2.0, 0.8, 0.9], FINE),
        ((44, 30, 40), [0.9, 2.0, 0.8], FINE),
        ((20, 30, 24), [3.0, 3.0, 3.0], FINE),  # halved spacing: every second voxel is a tie
        ((40, 30, 32), [0.75, 0.75, 0.75], FINE),
        ((21, 33, 27), [1.0, 1.0, 1.0], FINE),
        ((16, 40, 44), [5.0, 0.8, 0.9], THICK),  # nearest slices along k
        ((40, 16, 44), [0.8, 5.0, 0.9], [0.9, 3.0, 0.9]),
        ((40, 44, 16), [0.8, 0.9, 5.0], [0.9, 0.9, 3.0]),
        ((16, 40, 44), [3.0, 0.8, 0.9], THICK),  # slices stay where they are
        ((16, 40, 44), [5.0, 0.9, 0.9], THICK),  # only slices move
        ((24, 20, 22), FINE, FINE),
        ((3, 4, 5), [2.0, 2.0, 2.0], FINE),
        ((1, 6, 7), [1.4, 1.6, 1.2], FINE),
    ],
)
def test_case_is_prepared_voxel_for_voxel_as_by_nnunet(
    shape: tuple[int, int, int], spacing: list[float], target: list[float]
) -> None:
    image, labels = patient(shape)
    plans = plans_of(target)
    assert not left_to_nnunet(plans)
    require_equal(
        prepare_arrays(image, labels, spacing, plans), by_nnunet(image, labels, spacing, plans)
    )


@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_what_is_zero_around_the_body_is_cropped_and_marked_as_by_nnunet(
    transpose: tuple[int, ...],
) -> None:
    image, labels = patient((26, 30, 34))
    image[:3], image[:, -4:] = 0, 0
    image[10:16, :9, 20:] = 0  # hangs together with what is around
    image[12:18, 12:20, 10:18] = 0  # a hole
    labels[image == 0] = 0
    labels[11:13, 4:6, 25:28] = 7  # what was annotated stays
    plans = plans_of(FINE, transpose=transpose)
    along = [1.0, 1.2, 1.4]
    ours = prepare_arrays(image, labels, along, plans)
    require_equal(ours, by_nnunet(image, labels, along, plans))
    assert (ours.labels == -1).any()
    # Arrays in any memory order, as files of other orientations give them.
    turned = (np.asfortranarray(a[:, ::-1])[:, ::-1] for a in (image, labels))
    require_equal(prepare_arrays(*turned, along, plans), ours)


def test_regions_have_places_of_their_own_and_empty_ones_none() -> None:
    image, labels = patient((20, 30, 30), n_labels=3)
    labels[labels == 2] = 0
    plans = plans_of(FINE, REGIONS)
    ours = prepare_arrays(image, labels, [2.0, 1.0, 1.0], plans)
    require_equal(ours, by_nnunet(image, labels, [2.0, 1.0, 1.0], plans))
    places = ours.properties["class_locations"]
    assert list(places) == [(1, 2, 3), (2,), (3,)]
    assert places[(2,)] == []
    assert len(places[(1, 2, 3)]) == np.isin(ours.labels, (1, 3)).sum()


def test_voxels_to_be_ignored_are_no_structure_but_a_place_to_stay_away_from() -> None:
    image, labels = patient((20, 30, 30), n_labels=3)
    plans = plans_of(FINE, {"background": 0, "a": 1, "b": 2, "ignore": 3})
    ours = prepare_arrays(image, labels, [2.0, 1.0, 1.0], plans)
    require_equal(ours, by_nnunet(image, labels, [2.0, 1.0, 1.0], plans))
    assert list(ours.properties["class_locations"]) == [1, 2, (-1, 0, 1, 2)]


def test_case_without_any_structure_is_prepared_as_by_nnunet() -> None:
    image, labels = patient((12, 14, 16))
    labels[:] = 0
    plans = plans_of(FINE)
    ours = prepare_arrays(image, labels, [2.0, 2.0, 2.0], plans)
    require_equal(ours, by_nnunet(image, labels, [2.0, 2.0, 2.0], plans))
    assert not any(len(places) for places in ours.properties["class_locations"].values())


def test_labels_by_the_nearest_voxel_are_as_by_nnunet() -> None:
    image, labels = patient((20, 30, 24))
    settings = {"is_seg": True, "order": 0, "order_z": 0, "force_separate_z": False}
    plans = plans_of(FINE, resampling_fn_seg_kwargs=settings)
    spacing = [5.0, 1.0, 3.0]
    require_equal(
        prepare_arrays(image, labels, spacing, plans), by_nnunet(image, labels, spacing, plans)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"normalization_schemes": ["ZScoreNormalization"]},
        {
            "resampling_fn_seg_kwargs": {
                "is_seg": True, "order": 3, "order_z": 0, "force_separate_z": None
            }
        },
    ],
)  # fmt: skip
def test_what_only_nnunet_understands_it_prepares_and_is_named(changes: dict[str, Any]) -> None:
    plans = plans_of(FINE, **changes)
    assert left_to_nnunet(plans)
    image, labels = patient((12, 20, 22))
    ours = prepare_arrays(image, labels, [2.0, 1.0, 1.0], plans)
    theirs = by_nnunet(image, labels, [2.0, 1.0, 1.0], plans)
    np.testing.assert_array_equal(ours.data, theirs.data)
    np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_case_thinner_than_half_a_voxel_of_the_network_is_refused() -> None:
    image, labels = patient((1, 20, 20))
    with pytest.raises(ImageError, match="no voxel on the network's grid"):
        prepare_arrays(image, labels, [0.5, 1.0, 1.0], plans_of(FINE))


def test_label_of_the_most_weight_wins_and_of_equals_the_nearest() -> None:
    line = np.array([1, 2, 2, 5], np.int16).reshape(1, 1, 4)
    # Centres at 0.5 and 2.5: equals, and the nearer one, by rounding up, is the right one.
    assert resample_labels(line, (1, 1, 2)).ravel().tolist() == [2, 5]
    # Centres at -0.25, 0.25, 0.75, ...: three quarters are the nearer one's.
    assert resample_labels(line, (1, 1, 8)).ravel().tolist() == [1, 1, 2, 2, 2, 2, 5, 5]
    # Three voxels of 1 and three of 2 around two of 3, one of which is the nearest: the smallest.
    block = np.array([3, 1, 1, 1, 2, 2, 2, 3], np.int16).reshape(2, 2, 2)
    assert resample_labels(block, (1, 1, 1)).ravel().tolist() == [1]


def test_slices_along_a_separate_axis_are_taken_whole() -> None:
    labels = np.array([[[1, 2]], [[3, 4]]], np.int16)
    assert resample_labels(labels, (4, 1, 2), separate=0)[:, 0].tolist() == [
        [1, 2], [1, 2], [3, 4], [3, 4]
    ]  # fmt: skip


def test_places_of_a_large_structure_are_a_hundredth_of_it() -> None:
    labels = np.ones((110, 100, 100), np.int16)
    labels[100:] = 0
    labels[0, 0, :7] = 2
    places = foreground_places(labels, [1, 2, [1, 2], 9])
    assert len(places[1]) == 10_000  # the least, of 999,993
    assert sorted(places[2][:, 3].tolist()) == list(range(7))
    assert set(places) == {1, 2, (1, 2), 9}
    assert places[9] == []
    drawn = places[1, 2]
    assert len(np.unique(drawn, axis=0)) == len(drawn)
    assert (labels[tuple(drawn.T[1:])] > 0).all()
    doubled = np.ones((110, 110, 100), np.int16)
    assert len(foreground_places(doubled, [1])[1]) == 12_100
