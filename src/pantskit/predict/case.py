"""One CT through one model, to a label map on the CT's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ImageError
from pantskit.core.hounsfield import require_hounsfield
from pantskit.core.labels import LESION, PANTS
from pantskit.core.volume import Volume
from pantskit.networks.axes import from_network, to_network
from pantskit.networks.folder import Model
from pantskit.networks.plans import Plans
from pantskit.predict.export import resample_argmax, separate_axis
from pantskit.predict.windows import predict_logits

if TYPE_CHECKING:
    import torch

TUMOR_PROBABILITY = (
    "largest softmax probability of pancreatic_lesion over all voxels of the network's grid"
)


@dataclass(frozen=True)
class Prediction:
    """The answer for one CT.

    Attributes:
        labels: uint8 ids of the label space `pants`, on the CT's own grid.
        tumor_probability: see `TUMOR_PROBABILITY`; None where the model knows no lesion.
        windows_shape: voxels of the CT on the network's grid.
    """

    labels: Volume
    tumor_probability: float | None
    windows_shape: tuple[int, int, int]


def predict_volume(
    model: Model,
    network: torch.nn.Module,
    image: Volume,
    *,
    device: torch.device,
    mirror: bool = True,
    threads: int = 1,
) -> Prediction:
    """Segment a CT in any orientation.

    Args:
        model: the network's model.
        network: `model.build(device)`.
        image: HU.
        device: where the network runs.
        mirror: average over the flips that the model was trained with.
        threads: of the export.

    Raises:
        ImageError: If values are not HU, or the CT is thinner than half a voxel of the network.
    """
    require_hounsfield(image)
    plans, orientation = model.plans, model.info.orientation
    array, spacing = to_network(image, orientation)
    _require_extent(array.shape[1:], spacing, plans)
    data, properties = plans.preprocess(array, spacing)
    logits = predict_logits(
        network,
        data,
        plans.patch_size,
        n_channels=plans.n_channels,
        device=device,
        mirror_axes=model.mirror_axes if mirror else (),
    )
    probability = None
    if LESION in model.info.channels:
        probability = largest_probability(logits, model.info.space.id_of(LESION))
    channels = _to_image_grid(logits.cpu().numpy(), properties, plans, threads)
    table = np.array([0, *(PANTS.id_of(s) for s in model.info.channels)], np.uint8)
    labels = from_network(table[channels], image.geometry, orientation)
    z, y, x = data.shape[1:]
    return Prediction(labels, probability, (z, y, x))


def _require_extent(shape: Sequence[int], spacing: Sequence[float], plans: Plans) -> None:
    """Refuse a CT of which no voxel would be left on the network's grid."""
    target = plans.configuration.spacing
    mm = [shape[axis] * spacing[axis] for axis in plans.transpose]
    thin = [(a, b) for a, b in zip(mm, target, strict=True) if round(a / b) < 1]
    if thin:
        raise ImageError(
            f"the CT is {thin[0][0]:.3g} mm thick and a voxel of the network "
            f"{thin[0][1]:.3g} mm; give a whole scan"
        )


def largest_probability(logits: torch.Tensor, channel: int) -> float:
    """Largest softmax probability of a channel over (c, z, y, x) logits, a slab at a time."""
    import torch

    largest = 0.0
    for slab in torch.split(logits, 16, dim=1):
        margin = torch.logsumexp(slab, dim=0) - slab[channel]
        largest = max(largest, float(torch.exp(-margin.min())))
    return largest


def _to_image_grid(
    logits: NDArray[np.float32], properties: dict[str, Any], plans: Any, threads: int
) -> NDArray[np.uint8]:
    """Labels by channel on the (k, j, i) grid that was preprocessed."""
    spacing = [properties["spacing"][axis] for axis in plans.transpose]
    cropped = resample_argmax(
        logits,
        tuple(properties["shape_after_cropping_and_before_resampling"]),
        nearest_axis=separate_axis(list(plans.configuration.spacing), spacing),
        threads=threads,
    )
    whole = np.zeros(properties["shape_before_cropping"], np.uint8)
    box = tuple(slice(low, high) for low, high in properties["bbox_used_for_cropping"])
    whole[box] = cropped
    return whole.transpose(plans.plans["transpose_backward"])
