from pathlib import Path

import numpy as np
import pytest
import torch

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ImageError
from pantskit.core.labels import PANTS
from pantskit.core.volume import read_volume
from pantskit.networks.axes import to_network
from pantskit.networks.folder import Model
from pantskit.predict.case import largest_probability, predict_volume
from pantskit.predict.windows import gaussian_weights, predict_logits, windows

CPU = torch.device("cpu")


class Doubling(torch.nn.Module):
    """Two channels: the image and its double."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, 2 * x], dim=1)


@pytest.mark.parametrize("shape", [(20, 30, 25), (16, 16, 16), (5, 40, 16)])
def test_windows_put_a_volume_together_again(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    logits = predict_logits(Doubling(), image, (16, 16, 16), n_channels=2, device=CPU)
    np.testing.assert_allclose(logits.numpy(), np.concatenate([image, 2 * image]), atol=1e-5)


def test_windows_reach_both_ends_and_overlap_by_half() -> None:
    starts = sorted({w[0].start for w in windows((110, 64, 64), (64, 64, 64), 0.5)})
    assert starts == [0, 23, 46]  # nnU-Net's own example


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

    image = np.ones((1, 16, 16, 16), np.float32)
    plain = predict_logits(Left(), image, (16, 16, 16), n_channels=1, device=CPU)
    assert set(plain.unique().tolist()) == {0, 1}
    mirrored = predict_logits(
        Left(), image, (16, 16, 16), n_channels=1, device=CPU, mirror_axes=(2,)
    )
    assert mirrored.unique().tolist() == [0.5]


def test_answer_that_is_not_finite_is_an_error() -> None:
    image = np.full((1, 16, 16, 16), np.inf, np.float32)
    with pytest.raises(ImageError, match="not finite"):
        predict_logits(Doubling(), image, (16, 16, 16), n_channels=2, device=CPU)


def test_largest_probability_is_the_softmaxs() -> None:
    logits = torch.randn(3, 20, 4, 4, generator=torch.Generator().manual_seed(0)) * 5
    expected = float(torch.softmax(logits, 0)[2].max())
    assert largest_probability(logits, 2) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("mirror", [False, True])
def test_labels_equal_nnunets_own_predictor(trained: tuple[Dataset, Path], mirror: bool) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    dataset, folder = trained
    model = Model.load(folder)
    network = model.build(CPU)
    if mirror:
        model = Model(**{**model.__dict__, "mirror_axes": (0, 2)})
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
    theirs = peer.predict_single_npy_array(array, {"spacing": spacing})
    ids = np.array([0, *(PANTS.id_of(s) for s in model.info.channels)])
    # nnU-Net sums windows in float16, so voxels on a border may differ.
    assert (ours.array == ids[theirs].T).mean() > 0.999
