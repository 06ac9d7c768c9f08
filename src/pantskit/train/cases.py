"""One training case at a time: looked over, then brought to the network's grid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.dataset import Case
from pantskit.core.errors import ImageError, LabelError
from pantskit.core.geometry import STANDARD_ORIENTATION, require_same_grid
from pantskit.core.hounsfield import require_hounsfield
from pantskit.core.labels import label_counts
from pantskit.core.run import Job
from pantskit.core.volume import Volume, read_volume
from pantskit.networks.axes import header_spacing, to_network
from pantskit.networks.folder import channel_space
from pantskit.networks.plans import Plans
from pantskit.networks.preprocessing import nonzero_box
from pantskit.train.partial import without_unknown_regions
from pantskit.train.preparing import prepare_arrays

# nnU-Net names a dataset by a number of three digits and a word.
DATASET_NAME = "Dataset001_pantskit"
PREPARED = "prepared"


@dataclass(frozen=True)
class TrainingCase:
    """What a worker needs to know of a case.

    Attributes:
        case: the case.
        structures: of channel 1, 2, ...
        work: the training's work folder.
        samples: HU values of structures to take for the statistics.
        annotated: those of `structures` that the case annotates.
        regions: whether channels overlap.
    """

    case: Case
    structures: tuple[str, ...]
    work: Path
    samples: int = 0
    annotated: tuple[str, ...] = ()
    regions: bool = False

    @property
    def intensities_path(self) -> Path:
        """Where the HU samples of the case lie."""
        return self.work / "intensities" / f"{self.case.case_id}.npy"

    @property
    def prepared(self) -> Path:
        """Files of the prepared case, without their suffixes."""
        return self.work / "preprocessed" / DATASET_NAME / PREPARED / self.case.case_id

    @property
    def prepared_files(self) -> tuple[Path, ...]:
        """What nnU-Net's data loader reads."""
        folder, name = self.prepared.parent, self.case.case_id
        return tuple(folder / f"{name}{end}" for end in (".b2nd", "_seg.b2nd", ".pkl"))

    def inputs(self) -> tuple[Path, ...]:
        """All files of the case."""
        labels = self.case.labels()
        return (self.case.image_path, *(labels.paths if labels else ()))

    def read(self) -> tuple[NDArray[Any], NDArray[np.uint8], list[float]]:
        """Image and labels in the axes of nnU-Net's readers and the standard orientation.

        Returns:
            (k, j, i) HU of the type on disk, (k, j, i) channels, both without a copy of what was
            read; spacing in mm along (k, j, i).

        Raises:
            ImageError, GeometryError, LabelError: If a file is damaged, values are not
                HU, image and labels are on different grids, or nothing is annotated.
        """
        image, labels = read_volume(self.case.image_path), self.case.labels()
        name = self.case.case_id
        if labels is None:
            raise LabelError(f"{name}: has no labels; leave it out with --cases, or annotate it")
        require_same_grid(labels.geometry, image.geometry, what=f"{name}: labels and CT")
        try:
            require_hounsfield(image)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None
        painted = Volume(labels.label_map(channel_space(self.structures)), image.geometry)
        said = header_spacing(self.case.image_path, image.geometry)
        array, spacing = to_network(image, STANDARD_ORIENTATION, spacing=said)
        return array, to_network(painted, STANDARD_ORIENTATION)[0], spacing


def scan_case(job: Job) -> dict[str, Any]:
    """Read a case as the training will, and take its part of the dataset's fingerprint."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
        DatasetFingerprintExtractor,
    )

    case: TrainingCase = job.payload
    image, labels, spacing = case.read()
    voxels = label_counts(labels)[1 : len(case.structures) + 1]
    box = nonzero_box(image)
    cropped = image[box]
    samples, _ = DatasetFingerprintExtractor.collect_foreground_intensities(
        labels[box][None], cropped[None], num_samples=case.samples
    )
    case.intensities_path.parent.mkdir(parents=True, exist_ok=True)
    np.save(case.intensities_path, np.asarray(samples[0], np.float32))
    return {
        "spacing": spacing,
        "shape_after_crop": cropped.shape,
        "relative_size_after_crop": cropped.size / image.size,
        "size": image.size,
        "voxels": dict(zip(case.structures, voxels.tolist(), strict=True)),
    }


@dataclass(frozen=True)
class Preparation:
    """A training case and the plans to prepare it by."""

    case: TrainingCase
    plans_path: Path
    dataset_json_path: Path


def prepare_case(job: Job) -> dict[str, Any]:
    """Crop, normalise and resample a case, and store it as nnU-Net's training reads it.

    The files are written by nnU-Net's own class, in the blocks that it chooses.
    """
    from nnunetv2.training.dataloading.nnunet_dataset import (
        comp_blosc2_params,
        nnUNetDatasetBlosc2,
    )

    preparation: Preparation = job.payload
    case = preparation.case
    plans = Plans(
        json.loads(preparation.plans_path.read_text("utf-8")),
        json.loads(preparation.dataset_json_path.read_text("utf-8")),
    )
    case.prepared.parent.mkdir(parents=True, exist_ok=True)
    for path in case.prepared_files:
        path.unlink(missing_ok=True)  # blosc2 does not write over a file
    try:
        prepared = prepare_arrays(*case.read(), plans)
    except ImageError as error:
        named = str(error).startswith(f"{case.case.case_id}: ")
        raise error if named else ImageError(f"{case.case.case_id}: {error}") from None
    if case.regions:
        places = prepared.properties["class_locations"]
        prepared.properties["class_locations"] = without_unknown_regions(
            places, case.structures, case.annotated
        )
    layout: list[Any] = []
    for array in (prepared.data, prepared.labels):
        blocks, chunks = comp_blosc2_params(array.shape, plans.patch_size, array.itemsize)
        layout += [chunks, blocks]
    nnUNetDatasetBlosc2.save_case(
        prepared.data, prepared.labels, prepared.properties, str(case.prepared), *layout
    )
    return {}
