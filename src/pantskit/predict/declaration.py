"""What the file of a model of one's own says of itself, and a CT as it wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pantskit.core.errors import ConfigError, DatasetError, GeometryError, LabelError
from pantskit.core.geometry import STANDARD_ORIENTATION, Geometry
from pantskit.core.hounsfield import require_hounsfield
from pantskit.core.labels import STRUCTURES, containers, require_structure
from pantskit.core.volume import Volume

_SETTINGS = ("LABELS", "ORIENTATION", "SPACING", "HU_WINDOW", "LOGITS", "MIRROR_AXES")


@dataclass(frozen=True)
class Declaration:
    """What the file says its `predict` takes and gives.

    Attributes:
        labels: id of a label map, or channel of logits, to structure; None where it is none of
            the 28, and its voxels become background. 0 is background.
        orientation: where each axis of the array points, as nibabel codes.
        spacing: mm along (i, j, k) of that orientation, as near as whole voxels allow; None for
            the CT's own.
        hu_window: HU that values are clipped to; None for no clipping.
        logits: `predict` promises logits; a label map is then refused. Without the promise it
            may give either.
        mirror_axes: axes of the array over whose flips logits are averaged.
    """

    labels: Mapping[int, str | None]
    orientation: str = STANDARD_ORIENTATION
    spacing: tuple[float, float, float] | None = None
    hu_window: tuple[float, float] | None = None
    logits: bool = False
    mirror_axes: tuple[int, ...] = ()

    @property
    def structures(self) -> tuple[str, ...]:
        """Structures that a prediction speaks of, in the order of the 28."""
        named = set(self.labels.values())
        return tuple(s for s in STRUCTURES if s in named)

    def require_able(
        self, name: str, *, mirror: bool, probabilities: Sequence[str], entropy: bool
    ) -> None:
        """Refuse what such a model cannot do, before anything runs.

        Args:
            name: of the file, for messages.
            mirror: False where flips were forbidden.
            probabilities, entropy: what is asked beside labels.

        Raises:
            ConfigError: If flips are forbidden and none are declared, or probabilities or
                entropy are asked of a model that promises no logits.
            DatasetError: If it does not know a structure whose probability is asked.
        """
        if not mirror and not self.mirror_axes:
            raise ConfigError(
                f"--no-mirror: {name} declares no MIRROR_AXES, so nothing is mirrored for it; "
                "what it does inside is its own"
            )
        if (probabilities or entropy) and not self.logits:
            raise ConfigError(
                f"{name}: probabilities and entropy come from logits; declare LOGITS = True and "
                "have predict give (c, i, j, k) floats"
            )
        unknown = [s for s in probabilities if not self.channels_of(s)]
        if unknown:
            raise DatasetError(
                f"{name}: the model does not know {unknown[0]}; it knows "
                f"{', '.join(self.structures)}"
            )

    def channels_of(self, structure: str) -> tuple[int, ...]:
        """Channels whose voxels belong to a structure: to the pancreas the lesion's, too."""
        if structure not in self.structures:
            return ()
        inside = [
            number
            for number, name in self.labels.items()
            if name is not None and (name == structure or structure in containers(name))
        ]
        return tuple(sorted(inside))


def declaration(values: Mapping[str, Any], name: str) -> Declaration:
    """Check what a module declares.

    Args:
        values: its globals; the six names of `Declaration` are looked at.
        name: of the file, for messages.

    Raises:
        ConfigError: If LABELS is missing or a value cannot be used.
    """
    given = {key: values[key] for key in _SETTINGS if values.get(key) is not None}
    labels = given.get("LABELS")
    if not isinstance(labels, Mapping) or not labels:
        raise ConfigError(f'{name}: declares no LABELS, as LABELS = {{1: "liver", 2: None}}')
    known: dict[int, str | None] = {}
    try:
        for number, structure in labels.items():
            if not isinstance(number, int) or not 1 <= number <= 255:
                raise ConfigError(f"{name}: LABELS: {number!r} is no id from 1 to 255")
            known[number] = None if structure is None else require_structure(str(structure))
        spacing, window = given.get("SPACING"), given.get("HU_WINDOW")
        declared = Declaration(
            known,
            str(given.get("ORIENTATION", STANDARD_ORIENTATION)),
            None if spacing is None else _numbers(spacing, 3),
            None if window is None else _numbers(window, 2),
            bool(given.get("LOGITS", False)),
            _axes(given.get("MIRROR_AXES", ())),
        )
        unit = Geometry.from_spacing((1, 1, 1), declared.spacing or (1.0, 1.0, 1.0))
        unit.axis_map(declared.orientation)
        unit.require_plausible("SPACING")
    except LabelError as error:
        raise ConfigError(f"{name}: LABELS: {error}; None means that it is none of them") from None
    except (GeometryError, TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from None
    if declared.hu_window and declared.hu_window[0] >= declared.hu_window[1]:
        raise ConfigError(f"{name}: HU_WINDOW {declared.hu_window} is empty; it is (low, high)")
    if declared.mirror_axes and not declared.logits:
        raise ConfigError(f"{name}: MIRROR_AXES averages logits; declare LOGITS = True, too")
    if not declared.structures:
        raise ConfigError(f"{name}: LABELS names none of the 28 structures")
    return declared


def as_declared(image: Volume, declared: Declaration) -> Volume:
    """A CT as a model wants it: float32 HU, turned, clipped and resampled as declared.

    Another spacing is reached by linear interpolation on a grid of whole voxels over the same
    extent, whose outer faces are the CT's.

    Raises:
        ImageError: If values are not HU.
    """
    require_hounsfield(image)
    turned = image.reoriented(declared.orientation)
    array = np.asfortranarray(turned.array, dtype=np.float32)
    if declared.hu_window is not None:
        array = np.clip(array, *declared.hu_window)
    if declared.spacing is None:
        return Volume(array, turned.geometry)
    from scipy.ndimage import zoom

    old = turned.geometry
    shape = [max(1, round(e / s)) for e, s in zip(old.extent_mm, declared.spacing, strict=True)]
    ratio = np.array(old.shape) / shape  # old voxels a new one
    affine = old.affine.copy()
    affine[:3, :3] *= ratio
    affine[:3, 3] = old.to_world(0.5 * ratio - 0.5)
    geometry = Geometry((shape[0], shape[1], shape[2]), affine)
    array = zoom(array, 1 / ratio, order=1, mode="nearest", grid_mode=True)
    return Volume(np.asfortranarray(array), geometry)


def _numbers(values: Any, count: int) -> Any:
    numbers = tuple(float(v) for v in values)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{values!r} is not {count} numbers")
    return numbers


def _axes(values: Any) -> tuple[int, ...]:
    axes = tuple(sorted({int(v) for v in values}))
    if not set(axes) <= {0, 1, 2}:
        raise ValueError(f"MIRROR_AXES {values!r}: axes are 0, 1 and 2")
    return axes
