from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pantskit.core.dataset import Dataset
from pantskit.networks.folder import Model
from pantskit.networks.plans import Plans
from pantskit.networks.preprocessing import NetworkImage, WholeImage, nonzero_box, streams


def hu(shape: tuple[int, int, int]) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(shape)
    array = (gaussian_filter(noise, 1.0) * 1500).astype(np.int16)
    array[array == 0] = 1
    return array


@pytest.mark.parametrize(
    ("shape", "spacing", "target", "transpose"),
    [
        ((40, 50, 60), [2.0, 0.8, 0.9], [1.5, 1.5, 1.5], [0, 1, 2]),
        ((60, 40, 50), [0.9, 2.0, 0.8], [1.5, 1.5, 1.5], [1, 2, 0]),
        ((30, 50, 60), [5.0, 0.8, 0.9], [5.0, 1.0, 1.0], [0, 1, 2]),
        ((30, 50, 60), [4.0, 0.8, 0.9], [3.0, 1.0, 1.0], [0, 1, 2]),
        ((60, 30, 50), [0.9, 4.0, 0.9], [1.0, 3.0, 1.0], [0, 1, 2]),
        ((60, 50, 30), [0.9, 0.9, 4.0], [1.0, 1.0, 3.0], [0, 1, 2]),
        ((20, 30, 25), [1.5, 1.5, 1.5], [1.5, 1.5, 1.5], [0, 1, 2]),
    ],
)
def test_values_equal_nnunets_preprocessing_and_come_in_any_pieces(
    trained: tuple[Dataset, Path],
    shape: tuple[int, int, int],
    spacing: list[float],
    target: list[float],
    transpose: list[int],
) -> None:
    model = Model.load(trained[1])
    values = model.plans.plans | {"transpose_forward": transpose}
    values["configurations"]["3d_fullres"]["spacing"] = target
    plans = Plans(values, model.plans.dataset_json)
    assert streams(plans)
    image = hu(shape)
    image[:3] = 0  # cropped away
    image[:, -2:] = 0
    theirs, properties = plans.preprocess(image[None].astype(np.float32), spacing)
    view, along = image.transpose(transpose), [spacing[axis] for axis in transpose]
    ours = NetworkImage(view, along, plans)
    assert [[s.start, s.stop] for s in ours.box] == [
        list(ends) for ends in properties["bbox_used_for_cropping"]
    ]
    depth = ours.shape[0]
    whole = ours.read(0, depth).numpy()
    np.testing.assert_allclose(whole, theirs[0], atol=1e-5)
    again, edges = NetworkImage(view, along, plans), [0, 3, depth // 2, depth]
    pieces = [again.read(a, b) for a, b in pairwise(edges)]
    np.testing.assert_allclose(torch.cat(pieces).numpy(), whole, atol=1e-5)
    peer = WholeImage(view, along, plans)
    assert peer.box == ours.box
    np.testing.assert_array_equal(peer.read(0, depth).numpy(), theirs[0])


def test_other_normalisations_are_left_to_nnunet(trained: tuple[Dataset, Path]) -> None:
    model = Model.load(trained[1])
    model.plans.plans["configurations"]["3d_fullres"]["normalization_schemes"] = [
        "ZScoreNormalization"
    ]
    assert not streams(Plans(model.plans.plans, model.plans.dataset_json))


def test_box_of_what_is_not_zero() -> None:
    image = np.zeros((6, 7, 8), np.int16)
    image[2:4, 1, 5:8] = -7
    assert nonzero_box(image) == (slice(2, 4), slice(1, 2), slice(5, 8))
