"""A CT as the network wants it, made slab by slab.

nnU-Net's own preprocessing holds several float64 copies of the CT. Cropping, clipping and
spline interpolation are linear along each axis once the values are clipped, so here the slices
are resampled in their plane as they are needed, and then along z, by matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ImageError
from pantskit.networks.plans import Plans
from pantskit.networks.resampling import (
    PlaneResampler,
    axis_matrix,
    axis_weights,
    row_ends,
    separate_axis,
)

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]

_DEFAULT_RESAMPLING = "resample_data_or_seg_to_shape"
_TORCH_RESAMPLING = "resample_torch_fornnunet"
# Slices that are worked on at once: memory stays small, matrix products stay efficient.
_CHUNK = 16
_AIR_HU = -400.0  # denser than lung is tissue; what CTs are clipped to is often higher
_ROUNDING = 1e-3  # in standard deviations of the training data's values


@dataclass(frozen=True)
class Resampling:
    """What the plans say of resampling.

    Attributes:
        order: of the splines.
        force_separate: nnU-Net's `force_separate_z`.
        clips: whether overshoot of splines is clipped to the range of the values.
    """

    order: int
    force_separate: bool | None
    clips: bool


def resampling_of(plans: Plans, what: str) -> Resampling | None:
    """How the plans resample `"data"` or `"probabilities"`; None for ways not known here."""
    values = plans.configuration.configuration
    name, settings = values[f"resampling_fn_{what}"], values[f"resampling_fn_{what}_kwargs"]
    force = settings.get("force_separate_z", None if name == _TORCH_RESAMPLING else False)
    if settings.get("is_seg", False) or "separate_z_anisotropy_threshold" in settings:
        return None
    if name == _DEFAULT_RESAMPLING and settings.get("order_z", 0) == 0:
        return Resampling(settings.get("order", 3), force, clips=True)
    if name == _TORCH_RESAMPLING and not {"mode", "aniso_axis_mode"} & set(settings):
        return Resampling(1, force, clips=False)
    return None


class NetworkImage:
    """A CT's values on the network's grid, normalised; made when they are read.

    Attributes:
        shape: (z, y, x) of the network's grid.
        box: of the CT, what is not cropped away.
        cropped: (z, y, x) of the box.
        separate: the axis that is resampled by nearest slice, or None.
        air: what air is at most, normalised.
    """

    def __init__(
        self,
        image: NDArray[Any],
        spacing: Sequence[float],
        plans: Plans,
        device: torch.device | None = None,
    ) -> None:
        """Prepare matrices; no voxel is resampled yet.

        Args:
            image: (z, y, x) HU in the network's axes, of any type and memory order.
            spacing: mm along them.
            plans: the model's; `streams(plans)` must be true.
            device: where to resample.

        Raises:
            ImageError: If the image is thinner than half a voxel of the network's grid.
        """
        import torch

        self.box = nonzero_box(image)
        self._image = image[self.box]
        self.cropped: Shape = self._image.shape
        target = plans.configuration.spacing
        z, y, x = (
            round(old / new * n) for old, new, n in zip(spacing, target, self.cropped, strict=True)
        )
        self.shape: Shape = (z, y, x)
        if 0 in self.shape:
            raise ImageError(
                f"{' x '.join(map(str, self.cropped))} voxels of {_mm(spacing)} mm, what is 0 "
                f"around them cut off, have no voxel on the network's grid of {_mm(target)} mm; "
                "leave the image out"
            )
        way = resampling_of(plans, "data")
        assert way is not None
        self.separate = separate_axis(spacing, target, way.force_separate)
        orders = [0 if axis == self.separate else way.order for axis in range(3)]
        pairs = zip(self.cropped, self.shape, orders, strict=True)
        matrices = [axis_matrix(a, b, order=order) for a, b, order in pairs]
        self._along_z = matrices[0]
        self._first, self._last = row_ends(matrices[0])
        self._device = device or torch.device("cpu")
        self._in_plane = PlaneResampler(matrices[1], matrices[2], self._device)
        self._normalisation = _ct_normalisation(plans)
        threshold = np.array([_AIR_HU], np.float32)
        self._normalisation.apply(threshold)
        # Where the threshold is below what values are clipped to, air has that very value, and
        # rounding in the resampling must not lift it above.
        self.air: float | None = float(threshold[0]) + _ROUNDING
        resampled = self.shape != self.cropped
        clip = way.clips and way.order > 1 and resampled
        self._range = self._find_range() if clip else None
        self._kept: dict[int, torch.Tensor] = {}

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Slices start to stop of the network's grid: (n, y, x) float32, on the device.

        Slices are cheapest in rising order: what lies before the last ones is forgotten.
        """
        import torch

        parts = [self._read(n, min(n + _CHUNK, stop)) for n in range(start, stop, _CHUNK)]
        return torch.cat(parts)

    def fill(self, out: NDArray[np.float32]) -> None:
        """Write all slices into a (z, y, x) array, with no second copy of them in memory."""
        for start in range(0, len(out), _CHUNK):
            part = out[start : start + _CHUNK]
            part[:] = self._read(start, start + len(part)).cpu().numpy()

    def _read(self, start: int, stop: int) -> torch.Tensor:
        import torch

        low, high = int(self._first[start:stop].min()), int(self._last[start:stop].max()) + 1
        for index in [n for n in self._kept if n < low]:
            del self._kept[index]
        missing = [n for n in range(low, high) if n not in self._kept]
        for first in range(0, len(missing), _CHUNK):
            chosen = missing[first : first + _CHUNK]
            for index, plane in zip(chosen, self._planes(chosen), strict=True):
                self._kept[index] = plane
        slices = torch.stack([self._kept[n] for n in range(low, high)])
        if self.shape[0] != self.cropped[0]:
            matrix = torch.from_numpy(self._along_z[start:stop, low:high]).to(self._device)
            slices = (matrix @ slices.reshape(high - low, -1)).reshape(-1, *self.shape[1:])
        return self._clipped(slices, start, stop)

    def _planes(self, indices: list[int]) -> torch.Tensor:
        """Slices of the CT, normalised and resampled in their plane: (n, y, x)."""
        import torch

        part = self._image[indices[0] : indices[-1] + 1]
        values = np.ascontiguousarray(part, np.float32)
        values = values.copy() if np.shares_memory(values, part) else values
        self._normalisation.apply(values)
        return self._in_plane(torch.from_numpy(values).to(self._device))

    def _find_range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lowest and highest normalised value: of the CT, or of each slice across an axis."""
        axes = tuple(a for a in range(3) if a != self.separate)
        if self.separate is None:
            ends = [np.array([f(s) for f in (np.min, np.max)]) for s in self._image]
            low, high = np.min(ends, axis=0)[0], np.max(ends, axis=0)[1]
        else:
            low, high = self._image.min(axis=axes), self._image.max(axis=axes)
        result = []
        for values in (low, high):
            bounds = np.atleast_1d(np.asarray(values)).astype(np.float32)
            self._normalisation.apply(bounds)
            result.append(bounds)
        return result[0], result[1]

    def _clipped(self, values: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Without the overshoot of splines, as scikit-image's resize."""
        import torch

        if self._range is None:
            return values
        low, high = (torch.from_numpy(bounds).to(self._device) for bounds in self._range)
        if self.separate is None:
            return values.clamp_(low[0], high[0])
        axis = self.separate
        taken = _nearest_of(self.cropped[axis], self.shape[axis])
        taken = taken[start:stop] if axis == 0 else taken
        place = [1, 1, 1]
        place[axis] = -1
        lows, highs = (bounds[torch.from_numpy(taken)].reshape(place) for bounds in (low, high))
        return torch.minimum(torch.maximum(values, lows), highs)


def streams(plans: Plans) -> bool:
    """Whether `NetworkImage` can do what the plans ask; else nnU-Net's own way is left."""
    configuration = plans.configuration
    return (
        list(configuration.normalization_schemes) == ["CTNormalization"]
        and configuration.configuration.get("preprocessor_name") == "DefaultPreprocessor"
        and resampling_of(plans, "data") is not None
    )


class WholeImage:
    """The same for plans that only nnU-Net's own preprocessing understands: held in memory.

    Attributes:
        shape: (z, y, x) of the network's grid.
        box: of the CT, what is not cropped away.
        cropped: (z, y, x) of the box.
        air: None; other normalisations than a CT's do not tell air.
    """

    air: float | None = None

    def __init__(
        self,
        image: NDArray[Any],
        spacing: Sequence[float],
        plans: Plans,
        device: torch.device | None = None,
    ) -> None:
        """Preprocess; arguments as of `NetworkImage`."""
        import torch

        back = np.argsort(plans.transpose)
        array = np.ascontiguousarray(image.transpose(back), np.float32)[None]
        data, properties = plans.preprocess(array, [spacing[a] for a in back])
        low_high = properties["bbox_used_for_cropping"]
        slices = [slice(int(low), int(high)) for low, high in low_high]
        self.box: Box = (slices[0], slices[1], slices[2])
        z, y, x = properties["shape_after_cropping_and_before_resampling"]
        self.cropped: Shape = (int(z), int(y), int(x))
        self._data = torch.from_numpy(np.ascontiguousarray(data[0], np.float32))
        self._device = device or torch.device("cpu")
        z, y, x = self._data.shape
        self.shape: Shape = (z, y, x)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Slices start to stop of the network's grid: (n, y, x) float32, on the device."""
        return self._data[start:stop].to(self._device)


def nonzero_box(image: NDArray[Any]) -> Box:
    """The box of the voxels that are not 0, to which nnU-Net crops."""
    sides = [image[0], image[-1], image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]]
    if all(side.any() for side in sides):
        return slice(0, image.shape[0]), slice(0, image.shape[1]), slice(0, image.shape[2])
    rows, columns = np.zeros(image.shape[1], bool), np.zeros(image.shape[2], bool)
    slices = np.zeros(image.shape[0], bool)
    for index, plane in enumerate(image):
        filled = plane != 0
        rows |= filled.any(axis=1)
        columns |= filled.any(axis=0)
        slices[index] = filled.any()
    z, y, x = (_ends(filled) for filled in (slices, rows, columns))
    return z, y, x


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{s:.3g}" for s in spacing)


def _ends(filled: NDArray[np.bool_]) -> slice:
    where = np.flatnonzero(filled)
    return slice(int(where[0]), int(where[-1]) + 1) if where.size else slice(0, filled.size)


@dataclass(frozen=True)
class _CTNormalisation:
    low: float
    high: float
    mean: float
    std: float

    def apply(self, values: NDArray[np.float32]) -> None:
        np.clip(values, self.low, self.high, out=values)
        values -= self.mean
        values /= self.std


def _ct_normalisation(plans: Plans) -> _CTNormalisation:
    facts = plans.manager.foreground_intensity_properties_per_channel["0"]
    low, high = float(facts["percentile_00_5"]), float(facts["percentile_99_5"])
    return _CTNormalisation(low, high, float(facts["mean"]), max(float(facts["std"]), 1e-8))


def _nearest_of(n_in: int, n_out: int) -> NDArray[np.int64]:
    return axis_weights(n_in, n_out, nearest=True).low
