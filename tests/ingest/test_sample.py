from __future__ import annotations

import numpy as np
import pytest

from pantskit.ingest.facts.sample import Sample

VOLUME = np.random.default_rng(3).integers(-1000, 1000, (11, 8, 23)).astype(np.int16)


@pytest.mark.parametrize("steps", [(1, 1, 1), (2, 3, 4), (5, 1, 7), (20, 20, 40)])
@pytest.mark.parametrize("slices", [1, 2, 5, 23])
def test_what_went_by_in_slabs_is_every_nth_voxel_of_the_volume(steps, slices):
    sample = Sample(VOLUME.shape, steps)
    for k in range(0, 23, slices):
        slab = VOLUME[:, :, k : k + slices].copy()
        sample.add(slab)
        slab[:] = 0  # its memory is used again
    expected = VOLUME[:: steps[0], :: steps[1], :: steps[2]]
    np.testing.assert_array_equal(sample.array, expected)
    np.testing.assert_array_equal(Sample.of(VOLUME, steps).array, expected)
