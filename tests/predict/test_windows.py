from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pantskit.core.dataset import Dataset
from pantskit.core.volume import read_volume
from pantskit.networks.axes import to_network
from pantskit.networks.folder import Model
from pantskit.predict.case import predict_volume
from pantskit.predict.windows import Sliding, gaussian_weights, window_starts

CPU = torch.device("cpu")


class Doubling(torch.nn.Module):
    """Two channels: the image and its double."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, 2 * x], dim=1)


class Whole:
    """An image that lies in memory, in the network's axes."""

    air = None

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape = torch.from_numpy(array), array.shape

    def read(self, start: int, stop: int) -> torch.Tensor:
        return self.array[start:stop]


def all_logits(
    network: torch.nn.Module, image: np.ndarray, *, n_channels: int, **settings: object
) -> np.ndarray:
    """Means of all windows, collected from the ring as rows are finished: (c, z, y, x)."""
    sliding = Sliding((16, 16, 16), n_channels, CPU, **settings)  # type: ignore[arg-type]
    _, (z0, y0, x0) = sliding.padding(image.shape)
    slices: list[np.ndarray] = []
    for ring, finished in sliding.rows(network, Whole(image)):
        for z in range(len(slices), finished):
            slot = z % ring.depth
            slices.append((ring.logits[slot] / ring.weight[slot]).numpy().copy())
    whole = np.stack(slices, axis=1)
    z, y, x = image.shape
    return whole[:, z0 : z0 + z, y0 : y0 + y, x0 : x0 + x]


@pytest.mark.parametrize("shape", [(20, 30, 25), (16, 16, 16), (5, 40, 16), (90, 16, 3)])
def test_windows_put_a_volume_together_again(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    logits = all_logits(Doubling(), image, n_channels=2)
    np.testing.assert_allclose(logits, np.stack([image, 2 * image]), atol=1e-5)


def test_windows_reach_both_ends_and_overlap_by_half() -> None:
    assert window_starts(110, 64, 0.5) == [0, 23, 46]  # nnU-Net's own example


def test_windows_are_a_voxel_apart_at_least() -> None:
    assert window_starts(12, 8, 0.01) == [0, 1, 2, 3, 4]


def test_whoever_takes_a_row_has_gradients() -> None:
    """One who fails on it never ends the rows, and its thread goes on to other things."""
    image = np.zeros((40, 16, 16), np.float32)
    for _ in Sliding((16, 16, 16), 2, CPU).rows(Doubling(), Whole(image)):
        assert not torch.is_inference_mode_enabled()


def test_weights_peak_at_one_and_are_never_zero() -> None:
    weights = gaussian_weights((32, 32, 48))
    assert weights.max() == 1
    assert weights.min() > 0


def test_mirroring_averages_over_all_flips() -> None:
    class Left(torch.nn.Module):
        """Channel 0 is 1 in the lower half of the last axis."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = torch.zeros_like(x)
            out[..., :8] = 1
            return out

    image = np.ones((16, 16, 16), np.float32)
    assert set(np.unique(all_logits(Left(), image, n_channels=1)).tolist()) == {0, 1}
    mirrored = all_logits(Left(), image, n_channels=1, mirror_axes=(2,))
    assert np.unique(mirrored).tolist() == [0.5]


@pytest.mark.parametrize("mirror", [False, True])
def test_labels_equal_nnunets_own_predictor(trained: tuple[Dataset, Path], mirror: bool) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    dataset, folder = trained
    model = Model.load(folder)
    network = model.build(CPU)
    if mirror:
        model = replace(model, mirror_axes=(0, 2))
    image = read_volume(dataset.cases("test")[0].image_path)
    ours = predict_volume(model, network, image, device=CPU, mirror=mirror).labels

    peer = nnUNetPredictor(use_mirroring=mirror, device=CPU, allow_tqdm=False)
    peer.manual_initialization(
        network,
        model.plans.manager,
        model.plans.configuration,
        [model.weights],
        model.plans.dataset_json,
        "nnUNetTrainer",
        model.mirror_axes or None,
    )
    array, spacing = to_network(image, "LAI")
    theirs = peer.predict_single_npy_array(array[None].astype(np.float32), {"spacing": spacing})
    ids = model.heads.table
    # nnU-Net sums windows in float16, so voxels on a border may differ.
    assert (ours.array == ids[theirs].T).mean() > 0.999
