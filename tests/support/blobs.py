"""Small patients of four ellipsoids, and one model trained on them for all tests of a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.train.recipe import Recipe
from pantskit.train.run import train_model

SHAPE = (36, 32, 28)
SPACING = (4.0, 4.0, 5.0)
# Structure: centre and half axes in voxels, HU.
BLOBS = {
    "liver": ((9, 17, 12), (7, 8, 7), 120),
    "spleen": ((29, 11, 11), (4, 5, 6), 220),
    "pancreas": ((19, 18, 17), (5, 4, 4), 60),
    "pancreatic_lesion": ((19, 18, 17), (2.5, 2.5, 2.5), -20),
}
STRUCTURES = tuple(BLOBS)

# Seconds in place of minutes; everything else is the recipe for CPUs.
QUICK = Recipe.read("cpu").changed(
    epochs=3,
    iterations=12,
    patch_size=(24, 24, 24),
    spacing=(6.0, 6.0, 6.0),
    features=8,
    max_features=16,
    intensity_samples=10_000,
)


def write_case(
    dataset: Dataset,
    case_id: str,
    *,
    split: str = "train",
    structures: tuple[str, ...] = STRUCTURES,
    lesion: bool = True,
    seed: int = 0,
) -> Volume:
    """Write one patient; centres move by up to a voxel and a half."""
    rng = np.random.default_rng(seed)
    index = np.indices(SHAPE)
    ct, masks, shift = np.full(SHAPE, -100.0), {}, np.zeros(3)
    for structure, (centre, axes, hu) in BLOBS.items():
        if structure != "pancreatic_lesion":  # which moves with the pancreas
            shift = rng.uniform(-1.5, 1.5, 3)
        distance = sum(((index[a] - centre[a] - shift[a]) / axes[a]) ** 2 for a in range(3))
        masks[structure] = distance < 1
        if structure == "pancreatic_lesion" and not lesion:
            masks[structure][:] = False
        ct[masks[structure]] = hu
    ct = gaussian_filter(ct, 0.5) + rng.normal(0, 8, SHAPE)
    geometry = Geometry.from_spacing(SHAPE, SPACING, origin=(70 + seed, -60, 65))
    image = Volume(np.asfortranarray(ct.astype(np.int16)), geometry)
    write_volume(dataset.image_path(case_id, split), image)
    chosen = {s: masks[s] for s in structures}
    write_case_labels(dataset, case_id, split, chosen, geometry)
    return image


def write_dataset(root: Path, n_train: int = 4, n_test: int = 2) -> Dataset:
    """Write `blob_0`, `blob_1`, ...; every second one without a lesion."""
    dataset = Dataset.create(root, annotated=STRUCTURES)
    for n in range(n_train + n_test):
        split = "train" if n < n_train else "test"
        write_case(dataset, f"blob_{n}", split=split, lesion=n % 2 == 0, seed=n)
    return dataset


@cache
def trained(root: Path) -> tuple[Dataset, Path]:
    """A dataset and a model trained on it, made once for each root."""
    # Of so small a network, more threads than one spend their time waiting for each other.
    torch.set_num_threads(1)
    dataset, model = write_dataset(root / "dataset"), root / "model"
    train_model(dataset, model, recipe=QUICK.changed(epochs=8), device="cpu", workers=0)
    return dataset, model
