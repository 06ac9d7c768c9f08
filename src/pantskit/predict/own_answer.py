"""From what a model of one's own gave to labels, probabilities and entropy on the CT's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ConfigError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, PANTS
from pantskit.core.labelvolumes import resample_nearest
from pantskit.core.volume import Volume
from pantskit.predict.declaration import Declaration
from pantskit.predict.export import Exporter, Grids, Want, export_whole


@dataclass(frozen=True)
class OwnAnswer:
    """A model's answer for one CT.

    Attributes:
        labels: uint8 ids of the label space `pants`, on the CT's own grid.
        tumor_probability: largest softmax probability of the lesion's channel over the voxels
            that the model was given; None where there are no logits or no such channel.
        probabilities: structure to float32 probabilities in [0, 1], on the CT's own grid.
        entropy: float32 entropy of the answer in nats, on the CT's own grid; 0 is sure.
    """

    labels: Volume
    tumor_probability: float | None
    probabilities: Mapping[str, Volume] = field(default_factory=dict)
    entropy: Volume | None = None


def told(
    found: NDArray[Any],
    image: Volume,
    given: Volume,
    declared: Declaration,
    name: str,
    *,
    threads: int = 1,
    probabilities: Sequence[str] = (),
    entropy: bool = False,
) -> OwnAnswer:
    """A model's answer on the CT's own grid.

    Args:
        found: (i, j, k) label map or (c, i, j, k) logits.
        image: the CT.
        given: what the model was given of it.
        declared: what the model says of itself.
        name: of its file, for messages.
        threads: that share the way back from another spacing.
        probabilities, entropy: what is asked beside labels, of logits only.

    Raises:
        ConfigError: If it is neither a label map nor logits on the given grid.
        LabelError: If a label map holds ids that are not declared.
    """
    if found.ndim == 4:
        require_logits(found, given, declared, name)
        return _of_logits(found, image, declared, threads, probabilities, entropy)
    _require_labels(found, given, declared, name)
    labels = Volume(_table(declared)[found], given.geometry)
    if declared.spacing is not None:
        labels = resample_nearest(labels, image.reoriented(declared.orientation).geometry)
    return OwnAnswer(_on_grid(labels.array, labels.geometry, image), None)


def _of_logits(
    logits: NDArray[Any],
    image: Volume,
    declared: Declaration,
    threads: int,
    probabilities: Sequence[str],
    entropy: bool,
) -> OwnAnswer:
    back = image.reoriented(declared.orientation).geometry
    groups = tuple(declared.channels_of(structure) for structure in probabilities)
    _, i, j, k = logits.shape
    exporter = Exporter(
        Grids((0, 0, 0), (i, j, k), back.shape),
        table=_table(declared),
        want=Want(chances=groups, entropy=entropy),
        threads=threads,
    )
    block = export_whole(exporter, logits, back.shape)
    chances = [_on_grid(c, back, image) for c in block.chances]
    return OwnAnswer(
        _on_grid(block.labels, back, image),
        _largest_probability(logits, declared.channels_of(LESION)),
        dict(zip(probabilities, chances, strict=True)),
        None if block.entropy is None else _on_grid(block.entropy, back, image),
    )


def _on_grid(array: NDArray[Any], geometry: Geometry, image: Volume) -> Volume:
    """An array on the CT's axes."""
    turned = Volume(array, geometry).reoriented(image.geometry.orientation).array
    return Volume(np.asfortranarray(turned), image.geometry)


def as_array(found: Any) -> NDArray[Any]:
    """A NumPy array of an array or tensor, on whatever device and with whatever gradient."""
    for step in ("detach", "cpu"):
        if hasattr(found, step):
            found = getattr(found, step)()
    if str(getattr(found, "dtype", "")) == "torch.bfloat16":  # which NumPy does not know
        found = found.float()
    return np.asarray(found)


def _table(declared: Declaration) -> NDArray[np.uint8]:
    """Id in the space `pants` of each id or channel of the model."""
    table = np.zeros(max(declared.labels) + 1, np.uint8)
    for number, structure in declared.labels.items():
        table[number] = 0 if structure is None else PANTS.id_of(structure)
    return table


def _require_labels(array: NDArray[Any], given: Volume, declared: Declaration, name: str) -> None:
    if array.shape != given.array.shape or array.dtype.kind not in "iu":
        raise ConfigError(
            f"{name}: predict gave {array.dtype} of shape {array.shape}; expected an integer "
            f"label map of shape {given.array.shape}, or logits with a channel in front"
        )
    values = np.unique(array).tolist()
    unknown = [v for v in values if v and v not in declared.labels]
    if unknown:
        raise LabelError(f"{name}: predict gave labels {unknown[:8]}, which LABELS does not name")


def require_logits(array: NDArray[Any], given: Volume, declared: Declaration, name: str) -> None:
    """Refuse what is no (c, i, j, k) floats of the declared channels on the given grid.

    Raises:
        ConfigError: If it is not.
    """
    expected = (max(declared.labels) + 1, *given.array.shape)
    if array.shape != expected or array.dtype.kind != "f":
        raise ConfigError(
            f"{name}: predict gave {array.dtype} of shape {array.shape}; logits are {expected} "
            "floats, channel 0 the background"
        )
    if not np.isfinite(array).all():
        raise ConfigError(f"{name}: predict gave logits that are not finite")


def _largest_probability(logits: NDArray[Any], channels: Sequence[int]) -> float | None:
    if not channels:
        return None
    largest = 0.0
    for k in range(logits.shape[3]):  # a slice at a time: no second copy of the logits
        part = logits[..., k].astype(np.float32)
        part = np.exp(part - part.max(axis=0))
        joint = part[list(channels)].sum(axis=0) / part.sum(axis=0)
        largest = max(largest, float(joint.max()))
    return largest
