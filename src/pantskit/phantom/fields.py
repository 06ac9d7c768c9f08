"""Smooth random fields given by a few plane waves: exact at any point, on any grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def random_waves(
    rng: np.random.Generator, count: int, wavelength_mm: tuple[float, float]
) -> tuple[Float64, Float64]:
    """Directions and phases of plane waves.

    Returns:
        (count, 3) wave vectors in rad/mm and (count,) phases in rad.
    """
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    wavelength = rng.uniform(*wavelength_mm, size=(count, 1))
    return direction * (2 * np.pi / wavelength), rng.uniform(0, 2 * np.pi, count)


@dataclass(frozen=True, eq=False)
class Ripple:
    """An organ's rough surface, in mm: `sum_m amplitude_m sin(k_m . p + phase_m)`."""

    vectors: Float64  # (m, 3) rad/mm
    phases: Float64  # (m,)
    amplitudes: Float64  # (m,) mm

    @classmethod
    def random(
        cls, rng: np.random.Generator, rms_mm: float, wavelength_mm: tuple[float, float] = (35, 90)
    ) -> Ripple:
        """A field of four waves with that root mean square."""
        vectors, phases = random_waves(rng, 4, wavelength_mm)
        return cls(vectors, phases, np.full(4, rms_mm / np.sqrt(2.0)))

    @property
    def waves(self) -> Float32:
        """(m, 5) wave vector, phase, amplitude."""
        columns = (self.vectors, self.phases[:, None], self.amplitudes[:, None])
        return np.concatenate(columns, axis=1).astype(np.float32)

    @property
    def limit_mm(self) -> float:
        """No value of the field is larger."""
        return float(np.abs(self.amplitudes).sum())


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a patient lies: world millimetres to the atlas' own millimetres.

    `atlas = (world - origin) / scale + sum_m a_m sin(k_m . world + phase_m)`: a size, and a smooth
    random displacement.
    """

    origin: Float64  # (3,) RAS+ mm of the atlas' origin
    scale: Float64  # (3,) size of this patient over the atlas', along x, y, z
    vectors: Float64  # (m, 3) rad/mm
    phases: Float64  # (m,)
    amplitudes: Float64  # (m, 3) mm

    @classmethod
    def random(cls, rng: np.random.Generator, scale: Float64, rms_mm: float) -> Placement:
        """A displacement of that root mean square along each axis; origin (0, 0, 0)."""
        vectors, phases = random_waves(rng, 6, (160.0, 380.0))
        amplitudes = rng.normal(size=(6, 3)) * rms_mm * np.sqrt(2.0 / 6.0)
        return cls(np.zeros(3), scale, vectors, phases, amplitudes)

    def moved_to(self, origin: Float64) -> Placement:
        """The same patient elsewhere in the world."""
        shift = np.asarray(origin, dtype=np.float64) - self.origin
        phases = self.phases - self.vectors @ shift
        return Placement(self.origin + shift, self.scale, self.vectors, phases, self.amplitudes)

    def unplaced(self) -> Placement:
        """The world itself: what `on_grid` gives with it are RAS+ mm."""
        return Placement(
            np.zeros(3), np.ones(3), self.vectors[:0], self.phases[:0], self.amplitudes[:0]
        )

    def displacement(self, world: Float64) -> Float64:
        """(n, 3) world points to their (n, 3) displacement in mm of the atlas."""
        return np.asarray(
            np.sin(world @ self.vectors.T + self.phases) @ self.amplitudes, dtype=np.float64
        )

    def to_atlas(self, world: Float64) -> Float64:
        """(n, 3) world points to atlas points."""
        return (world - self.origin) / self.scale + self.displacement(world)

    def to_world(self, atlas: Float64) -> Float64:
        """(n, 3) atlas points to world points, by fixed-point iteration (the warp is mild)."""
        points = np.atleast_2d(np.asarray(atlas, dtype=np.float64))
        world = points * self.scale + self.origin
        for _ in range(30):
            world = (points - self.displacement(world)) * self.scale + self.origin
        return world

    def stretch_mm(self, centre: Float64, half: Float64) -> Float64:
        """How far the displacement may move points of boxes against the boxes' centres.

        Args:
            centre: (n, 3) RAS+ mm.
            half: (n, 3) half sizes along x, y, z, mm of the world.

        Returns:
            (n, 3) mm of the world along each axis: the first-order term at the centre, and a
            bound of the second-order one.
        """
        slope = np.cos(centre @ self.vectors.T + self.phases)  # (n, m)
        jacobian = np.einsum("nm,mc,md->ncd", slope, self.amplitudes, self.vectors)
        first = np.einsum("ncd,nd->nc", np.abs(jacobian), half)
        # within the box a wave's phase moves by at most |k| . half
        swing = half @ np.abs(self.vectors).T
        second = (0.5 * swing**2) @ np.abs(self.amplitudes)
        bound = np.minimum(first + second, 2 * np.abs(self.amplitudes).sum(axis=0))
        return np.asarray(1.3 * bound * self.scale, dtype=np.float64)

    def on_grid(
        self, affine: Float64, shape: tuple[int, int, int], slices: slice
    ) -> tuple[Float32, Float32, Float32]:
        """Atlas coordinates of a slab of voxel centres.

        A plane wave on a grid is an outer product of one factor per axis, so each coordinate is
        one matrix product of (in-plane factors) and (slice factors).

        Args:
            affine: (4, 4) voxel to RAS+ mm.
            shape: voxels of the whole grid along (i, j, k).
            slices: range of k.

        Returns:
            x, y, z: (i, j, slab) float32 in Fortran order, mm.
        """
        i, j = (np.arange(n, dtype=np.float64) for n in shape[:2])
        k = np.arange(slices.start, slices.stop, dtype=np.float64)
        along = self.vectors @ affine[:3, :3]  # (m, 3) phase per voxel step
        start = self.phases + self.vectors @ affine[:3, 3]
        plane = (
            along[:, 1, None, None] * j[:, None]
            + along[:, 0, None, None] * i
            + start[:, None, None]
        ).reshape(len(start), shape[0] * shape[1])
        depth = along[:, 2, None] * k
        factors = np.concatenate([np.sin(plane), np.cos(plane)])
        result = []
        for axis in range(3):
            step = affine[axis, :3] / self.scale[axis]
            origin = (affine[axis, 3] - self.origin[axis]) / self.scale[axis]
            flat = (step[1] * j[:, None] + step[0] * i + origin).reshape(1, -1)
            left = np.concatenate(
                [
                    self.amplitudes[:, axis, None] * np.cos(depth),
                    self.amplitudes[:, axis, None] * np.sin(depth),
                    np.ones((1, len(k))),
                    (step[2] * k)[None],
                ]
            ).astype(np.float32)
            right = np.concatenate([factors, flat, np.ones_like(flat)]).astype(np.float32)
            values = left.T @ right
            result.append(values.reshape(len(k), shape[1], shape[0]).transpose(2, 1, 0))
        return result[0], result[1], result[2]
