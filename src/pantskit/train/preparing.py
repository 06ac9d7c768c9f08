"""A training case on the network's grid, voxel for voxel as nnU-Net's DefaultPreprocessor has it.

nnU-Net resamples the CT by a three-dimensional spline in float64 and the labels one float64
volume per structure. Here the CT goes along each axis by matrices, slab by slab, and a label is
found among its eight neighbours at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.networks.plans import Plans
from pantskit.networks.preprocessing import NetworkImage, streams
from pantskit.networks.resampling import axis_centres, separate_axis
from pantskit.train.label_kernels import (
    FILLED,
    HOLLOW,
    OUTSIDE,
    count_labels,
    flood_from_faces,
    interpolated_labels,
    sort_places,
)

Labels = NDArray[np.int16]
Shape = tuple[int, int, int]

_BEYOND = -1  # nnU-Net's label of background that lies outside of what is not 0
# nnU-Net's choice of places to draw foreground patches around: how many of a structure, and the
# seed, so that the very same ones are drawn.
_FEWEST_PLACES, _SHARE_OF_PLACES, _SEED = 10_000, 0.01, 1234


@dataclass(frozen=True)
class Prepared:
    """A case as nnU-Net's training reads it.

    Attributes:
        data: (1, z, y, x) float32, normalised.
        labels: (1, z, y, x) int16.
        properties: nnU-Net's, with `class_locations`.
    """

    data: NDArray[np.float32]
    labels: Labels
    properties: dict[str, Any]


def left_to_nnunet(plans: Plans) -> str:
    """What in the plans only nnU-Net's own preprocessor does; empty where there is nothing."""
    values = plans.configuration.configuration
    if not streams(plans):
        return (
            f"{values.get('preprocessor_name')}, {', '.join(values['normalization_schemes'])}, "
            f"{values['resampling_fn_data']}"
        )
    settings = values["resampling_fn_seg_kwargs"]
    known = (
        values["resampling_fn_seg"] == "resample_data_or_seg_to_shape"
        and settings.get("is_seg", False)
        and settings.get("order", 3) in (0, 1)
        and settings.get("order_z", 0) == 0
        and "separate_z_anisotropy_threshold" not in settings
    )
    return "" if known else f"{values['resampling_fn_seg']} of labels"


def prepare_arrays(
    image: NDArray[Any], labels: NDArray[Any], spacing: Sequence[float], plans: Plans
) -> Prepared:
    """Crop, normalise and resample a case as the plans say.

    Args:
        image: (k, j, i) HU of any type, in the standard orientation.
        labels: (k, j, i) ids of the plans' dataset.
        spacing: mm along (k, j, i).
        plans: of the training.

    Raises:
        ImageError: If the image is thinner than half a voxel of the network's grid.
    """
    if left_to_nnunet(plans):
        return _by_nnunet(image, labels, spacing, plans)
    axes = plans.transpose
    image, labels = image.transpose(axes), labels.transpose(axes)
    along = [float(spacing[axis]) for axis in axes]
    source = NetworkImage(image, along, plans)
    own: Labels = np.array(labels[source.box], np.int16, order="C")
    _mark_beyond(own, image, source.box)
    order, separate = _label_resampling(plans, along)
    own = resample_labels(own, source.shape, order=order, separate=separate)
    properties = {
        "spacing": list(spacing),
        "shape_before_cropping": image.shape,
        "bbox_used_for_cropping": [[side.start, side.stop] for side in source.box],
        "shape_after_cropping_and_before_resampling": source.cropped,
        "class_locations": foreground_places(own, _drawn_around(plans)),
    }
    data = np.empty((1, *source.shape), np.float32)
    source.fill(data[0])
    return Prepared(data, own[None], properties)


def resample_labels(
    labels: Labels, shape: Shape, *, order: int = 1, separate: int | None = None
) -> Labels:
    """The label that has the most weight at each voxel of another grid of the same extent.

    Each label's mask is interpolated linearly, and the largest wins. Where several are equal to
    the last bit, it is the nearest voxel's label if that is one of them, else the smallest.

    Args:
        labels: (z, y, x), C-contiguous.
        shape: of the result.
        order: 1, or 0 for the nearest voxel's label.
        separate: axis that takes the nearest slice.

    Source: nnU-Net 2.8 with batchgenerators' `resize_segmentation`, equal voxel for voxel.
    """
    if labels.shape == shape:
        return labels
    out: Labels = np.empty(shape, np.int16)
    arguments: list[NDArray[Any]] = []
    for axis, (n_in, n_out) in enumerate(zip(labels.shape, shape, strict=True)):
        centre = axis_centres(n_in, n_out)
        near = np.floor(centre + 0.5).astype(np.int64)
        low = np.floor(centre).astype(np.int64)
        # As scipy rounds: the upper weight is what the lower one leaves.
        lower = 1.0 - (centre - low)
        weights = np.stack([lower, 1.0 - lower])
        high = np.minimum(low + 1, n_in - 1)
        if order == 0 or axis == separate:
            low, high = near, near
            weights = np.stack([np.ones(n_out), np.zeros(n_out)])
        arguments += [low, high, weights, near]
    interpolated_labels(labels, out, *arguments)
    return out


def foreground_places(
    labels: Labels, wanted: Sequence[int | tuple[int, ...] | list[int]]
) -> dict[int | tuple[int, ...], Any]:
    """Places of each structure to draw patches around: nnU-Net's `class_locations`.

    Args:
        labels: (z, y, x), C-contiguous.
        wanted: labels, or groups of labels of a region each.

    Returns:
        Label or tuple of labels to (n, 4) int64: channel, which is 0, and voxel; 10,000 of them
        or, if that is more, 1 %, drawn without replacement. Of what is not there an empty list.
    """
    keys = [int(k) if isinstance(k, int | np.integer) else tuple(map(int, k)) for k in wanted]
    groups = [k if isinstance(k, tuple) else (k,) for k in keys]
    highest = max((label for group in groups for label in group), default=0)
    counts = np.zeros(highest + 2, np.int64)
    flat = labels.reshape(-1)
    count_labels(flat, counts)
    asked = np.zeros(len(counts), np.bool_)
    asked[[label + 1 for group in groups for label in group]] = True
    counts[~asked] = 0
    starts = np.cumsum(counts) - counts
    places = np.empty(counts.sum(), np.int32 if flat.size < 2**31 else np.int64)
    sort_places(flat, asked, starts.copy(), places)
    random = np.random.RandomState(_SEED)  # as nnU-Net draws
    found: dict[int | tuple[int, ...], Any] = {}
    for key, group in zip(keys, groups, strict=True):
        sizes = counts[[label + 1 for label in group]]
        total = int(sizes.sum())
        if total == 0:
            found[key] = []
            continue
        number = max(min(_FEWEST_PLACES, total), int(np.ceil(total * _SHARE_OF_PLACES)))
        chosen = random.choice(total, number, replace=False)
        ends = np.cumsum(sizes)
        which = np.searchsorted(ends, chosen, side="right")
        begin = starts[[label + 1 for label in group]]
        index = places[begin[which] + chosen - (ends - sizes)[which]]
        found[key] = _with_channel(np.unravel_index(index, labels.shape))
    return found


def _with_channel(voxels: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.stack([np.zeros_like(voxels[0]), *voxels], axis=1).astype(np.int64, copy=False)


def _drawn_around(plans: Plans) -> list[int | tuple[int, ...] | list[int]]:
    """The labels or regions whose places nnU-Net keeps."""
    manager = plans.label_manager
    wanted = list(manager.foreground_regions if manager.has_regions else manager.foreground_labels)
    if manager.has_ignore_label:
        wanted.append([_BEYOND, *manager.all_labels])
    return wanted


def _label_resampling(plans: Plans, spacing: Sequence[float]) -> tuple[int, int | None]:
    """Order, and the axis that takes the nearest slice."""
    settings = plans.configuration.configuration["resampling_fn_seg_kwargs"]
    force = settings.get("force_separate_z", False)
    return settings.get("order", 3), separate_axis(spacing, plans.configuration.spacing, force)


def _mark_beyond(labels: Labels, image: NDArray[Any], box: tuple[slice, slice, slice]) -> None:
    """Give background a label of its own where the image is 0 from there to its border.

    A 0 inside the body, where water has it, is no border's.
    """
    faces = (image[0], image[-1], image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1])
    if all(face.all() for face in faces):
        return
    state = np.empty(image.shape, np.uint8)
    for plane, values in zip(state, image, strict=True):
        np.copyto(plane, np.where(values == 0, np.uint8(HOLLOW), np.uint8(FILLED)))
    flood_from_faces(state)
    for row, plane in zip(labels, state[box], strict=True):
        row[(row == 0) & (plane == OUTSIDE)] = _BEYOND


def _by_nnunet(
    image: NDArray[Any], labels: NDArray[Any], spacing: Sequence[float], plans: Plans
) -> Prepared:
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    data, found, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        np.asarray(image[None], np.float32),
        np.asarray(labels[None], np.int16),
        {"spacing": list(spacing)},
        plans.manager,
        plans.configuration,
        plans.dataset_json,
    )
    return Prepared(data, found.astype(np.int16, copy=False), properties)
