"""Compiled loops over a label map, (z, y, x) int16."""

from __future__ import annotations

from typing import Any

import numpy as np

from pantskit.measure.compiled import compiled

_MIXED = -32768  # in a row of labels: neighbours differ
FILLED, HOLLOW, OUTSIDE = 0, 1, 2


@compiled
def interpolated_labels(
    labels: Any, out: Any,
    z_low: Any, z_high: Any, z_weights: Any, z_near: Any,
    y_low: Any, y_high: Any, y_weights: Any, y_near: Any,
    x_low: Any, x_high: Any, x_weights: Any, x_near: Any,
) -> None:  # fmt: skip
    """Fill `out` with the label that has the most weight among a voxel's eight neighbours.

    Args:
        labels: (z, y, x).
        out: of another size.
        z_low: lower neighbour along z of each slice of `out`; likewise `y_low`, `x_low`.
        z_high: the upper one.
        z_weights: (2, n) float64, theirs.
        z_near: the nearer one.
    """
    width = out.shape[2]
    agreed = np.empty(labels.shape[2], np.int16)
    found = np.empty(8, np.int16)
    weight = np.empty(8, np.float64)
    for n in range(out.shape[0]):
        a, b = z_low[n], z_high[n]
        for y in range(out.shape[1]):
            c, d = y_low[y], y_high[y]
            for j in range(labels.shape[2]):
                here = labels[a, c, j]
                same = here == labels[a, d, j] and here == labels[b, c, j]
                agreed[j] = here if same and here == labels[b, d, j] else np.int16(_MIXED)
            for x in range(width):
                e, f = x_low[x], x_high[x]
                here = agreed[e]
                if here != _MIXED and here == agreed[f]:
                    out[n, y, x] = here
                    continue
                # scipy multiplies and adds in this order; ties depend on the last bit of it.
                size = 0
                for corner in range(8):
                    z_side, y_side, x_side = corner >> 2, corner >> 1 & 1, corner & 1
                    share = z_weights[z_side, n] * y_weights[y_side, y] * x_weights[x_side, x]
                    label = labels[b if z_side else a, d if y_side else c, f if x_side else e]
                    at = 0
                    while at < size and found[at] != label:
                        at += 1
                    if at == size:
                        found[at] = label
                        weight[at] = 0.0
                        size += 1
                    weight[at] += share
                out[n, y, x] = _heaviest(
                    found, weight, size, labels[z_near[n], y_near[y], x_near[x]]
                )


@compiled
def _heaviest(found: Any, weight: Any, size: int, nearest: int) -> int:
    """The label of the largest weight; of several the nearest voxel's, else the smallest."""
    best = 0
    for at in range(1, size):
        preferred = found[best] != nearest and (found[at] == nearest or found[at] < found[best])
        if weight[at] > weight[best] or (weight[at] == weight[best] and preferred):
            best = at
    return int(found[best])


@compiled
def flood_from_faces(state: Any) -> None:
    """Turn HOLLOW into OUTSIDE in all that hangs together with a face of the volume.

    Args:
        state: (z, y, x) uint8; voxels hang together over their faces.
    """
    depth, rows, columns = state.shape
    stack = np.empty((4096, 3), np.int32)
    for z in range(depth):
        for y in range(rows):
            edge = z == 0 or z == depth - 1 or y == 0 or y == rows - 1
            step = 1 if edge or columns < 2 else columns - 1
            for x in range(0, columns, step):
                if state[z, y, x] == HOLLOW:
                    stack = _flood(state, stack, z, y, x)


@compiled
def _flood(state: Any, stack: Any, z: int, y: int, x: int) -> Any:
    """Flood from a voxel, run by run along x; returns the stack, which may have grown."""
    depth, rows, columns = state.shape
    stack[0, 0], stack[0, 1], stack[0, 2] = z, y, x
    size = 1
    while size:
        size -= 1
        z, y, x = stack[size, 0], stack[size, 1], stack[size, 2]
        if state[z, y, x] != HOLLOW:
            continue
        first, last = x, x
        while first > 0 and state[z, y, first - 1] == HOLLOW:
            first -= 1
        while last < columns - 1 and state[z, y, last + 1] == HOLLOW:
            last += 1
        state[z, y, first : last + 1] = OUTSIDE
        if size + 2 * (last - first + 3) > len(stack):  # the most that this run can add
            longer = np.empty((2 * len(stack) + 4 * columns, 3), np.int32)
            longer[:size] = stack[:size]
            stack = longer
        for side in range(4):
            beside_z = z + (1 if side == 0 else -1 if side == 1 else 0)
            beside_y = y + (1 if side == 2 else -1 if side == 3 else 0)
            if not (0 <= beside_z < depth and 0 <= beside_y < rows):
                continue
            running = False
            for j in range(first, last + 1):
                hollow = state[beside_z, beside_y, j] == HOLLOW
                if hollow and not running:
                    stack[size, 0], stack[size, 1], stack[size, 2] = beside_z, beside_y, j
                    size += 1
                running = hollow
    return stack


@compiled
def count_labels(labels: Any, counts: Any) -> None:
    """Add the voxels of label n to counts[n + 1]; labels beyond it are left out.

    Args:
        labels: flat; from -1 on.
        counts: int64.
    """
    for index in range(labels.size):
        place = labels[index] + 1
        if place < len(counts):
            counts[place] += 1


@compiled
def sort_places(labels: Any, wanted: Any, cursor: Any, places: Any) -> None:
    """Write the places of each wanted label, in rising order, where its cursor stands.

    Args:
        labels: flat; from -1 on.
        wanted: bool, of label n at n + 1.
        cursor: of label n at n + 1: where in `places` its voxels begin; moves on.
        places: flat indices.
    """
    for index in range(labels.size):
        place = labels[index] + 1
        if place < len(wanted) and wanted[place]:
            places[cursor[place]] = index
            cursor[place] += 1
