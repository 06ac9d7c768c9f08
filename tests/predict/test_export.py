import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pantskit.networks.resampling import axis_weights, separate_axis
from pantskit.predict.export import resample_argmax


def smooth_logits(channels: int, shape: tuple[int, int, int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = [gaussian_filter(rng.standard_normal(shape), 2) for _ in range(channels)]
    return np.ascontiguousarray(np.stack(noise).astype(np.float32) * 20)


def test_same_size_is_plain_argmax() -> None:
    logits = smooth_logits(4, (5, 6, 7))
    np.testing.assert_array_equal(resample_argmax(logits, (5, 6, 7)), logits.argmax(0))


def test_two_voxels_become_four_by_hand() -> None:
    # Centres of four half-size voxels lie at -0.25, 0.25, 0.75, 1.25 of the input's; the outer
    # two are clamped. Channel 1 rises 0, 0.25, 0.75, 1; channel 0 is 0.5 everywhere.
    logits = np.array([[0.5, 0.5], [0.0, 1.0]], np.float32).reshape(2, 2, 1, 1)
    assert resample_argmax(logits, (4, 1, 1)).ravel().tolist() == [0, 0, 1, 1]


def test_equal_logits_go_to_the_first_channel() -> None:
    assert not resample_argmax(np.ones((3, 2, 2, 2), np.float32), (3, 3, 3)).any()


def test_one_voxel_stretches_over_the_whole_axis() -> None:
    weights = axis_weights(1, 4)
    assert weights.low.tolist() == weights.high.tolist() == [0, 0, 0, 0]


def test_threads_change_nothing() -> None:
    logits = smooth_logits(6, (9, 10, 11))
    one = resample_argmax(logits, (20, 17, 13))
    np.testing.assert_array_equal(resample_argmax(logits, (20, 17, 13), threads=3), one)


@pytest.mark.parametrize(
    ("shape", "out", "spacing", "out_spacing", "nearest"),
    [
        ((20, 24, 22), (31, 40, 29), [3.0, 2.0, 2.0], [2.0, 1.2, 1.5], None),
        ((20, 24, 22), (11, 13, 12), [2.0, 2.0, 2.0], [3.6, 3.7, 3.7], None),
        ((20, 24, 22), (10, 40, 29), [2.0, 2.0, 2.0], [4.0, 1.2, 1.5], 0),
        ((20, 24, 22), (33, 40, 29), [5.0, 1.0, 1.0], [3.0, 0.6, 0.7], 0),
        ((24, 20, 22), (40, 50, 29), [1.0, 5.0, 1.0], [0.6, 2.0, 0.7], 1),
        ((24, 20, 22), (24, 50, 22), [1.0, 5.0, 1.0], [1.0, 2.0, 1.0], 1),
    ],
)
def test_labels_equal_those_of_nnunets_resampling(
    shape: tuple[int, int, int],
    out: tuple[int, int, int],
    spacing: list[float],
    out_spacing: list[float],
    nearest: int | None,
) -> None:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    logits = smooth_logits(5, shape)
    theirs = resample_data_or_seg_to_shape(
        logits, out, spacing, out_spacing, is_seg=False, order=1, order_z=0, force_separate_z=None
    ).argmax(0)
    assert separate_axis(spacing, out_spacing) == nearest
    ours = resample_argmax(logits, out, nearest_axis=nearest, threads=2)
    # float64 there, float32 here: a tie may fall the other way.
    assert (ours != theirs).mean() < 1e-4
