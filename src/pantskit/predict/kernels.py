"""Compiled loops over a ring of logits, (slot, channel, y, x) float32.

Weights of an axis come as three arrays: lower neighbour, upper neighbour, share of the upper one.
Interpolation goes along z, then y, then x.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pantskit.measure.compiled import compiled

_MIXED = 255  # in a row of codes: neighbours differ
_NOTHING = 10.0  # logit of the background where no window was computed
_REMOTE = 25.0  # exp of minus this is nothing beside 1 in float32


@compiled
def best_channels(
    logits: Any, weight: Any, codes: Any, slots: Any,
    y_start: int, y_stop: int, x_start: int, x_stop: int,
    regions: bool, chosen: Any, score: float,
) -> tuple[float, bool]:  # fmt: skip
    """Turn sums of windows into means, in place, and write the code of every voxel.

    Weights become 1. Returns the largest joint probability of the chosen channels, `score` at
    least, and whether all means are finite.
    """
    n_channels, width = logits.shape[1], x_stop - x_start
    best = np.empty(width, np.float32)
    code = np.empty(width, np.uint8)
    odd = np.zeros(width, np.float32)
    for slot in slots:
        for y in range(y_start, y_stop):
            shares = weight[slot, y, x_start:x_stop]
            for x in range(width):
                best[x] = 0.0 if regions else -np.inf
                code[x] = 0
            for c in range(n_channels):
                row = logits[slot, c, y, x_start:x_stop]
                none = np.float32(_NOTHING if c == 0 and not regions else 0.0)
                none = np.float32(-_NOTHING) if regions else none
                for x in range(width):
                    value = row[x] / shares[x] if shares[x] != 0 else none
                    row[x] = value
                    odd[x] += value * np.float32(0.0)
                    if regions:
                        if value > 0:
                            code[x] = c + 1
                    elif value > best[x]:
                        best[x] = value
                        code[x] = c
            codes[slot, y, x_start:x_stop] = code
            shares[:] = 1
            if len(chosen):
                score = _largest(logits[slot, :, y, x_start:x_stop], best, regions, chosen, score)
    return score, bool(np.all(odd == 0))


@compiled
def _largest(row: Any, best: Any, regions: bool, chosen: Any, score: float) -> float:
    """The larger of `score` and the chosen channels' probability in a (c, x) row."""
    for x in range(row.shape[1]):
        top = row[chosen[0], x]
        for c in chosen:
            top = max(top, row[c, x])
        if regions:
            score = max(score, 1 / (1 + np.exp(-np.float64(top))))
            continue
        # The best channel alone leaves the chosen ones no more than this.
        if top < best[x] and len(chosen) / (1 + np.exp(np.float64(best[x] - top))) <= score:
            continue
        total, part = 0.0, 0.0
        for c in range(row.shape[0]):
            total += np.exp(np.float64(row[c, x] - best[x]))
        for c in chosen:
            part += np.exp(np.float64(row[c, x] - best[x]))
        score = max(score, part / total)
    return score


@compiled
def interpolated_labels(
    logits: Any, codes: Any, out: Any, table: Any, regions: bool, first: int,
    z_low: Any, z_high: Any, z_weight: Any,
    y_low: Any, y_high: Any, y_weight: Any,
    x_low: Any, x_high: Any, x_weight: Any,
) -> None:  # fmt: skip
    """Fill (n, y, x) labels of the image's slices from `first` on."""
    n_channels, width = logits.shape[1], out.shape[2]
    begin, end = x_low[0], x_high[width - 1] + 1
    agreed = np.empty(logits.shape[3], np.uint8)
    row = np.empty(logits.shape[3], np.float32)
    open_ = np.empty(width, np.int64)
    best = np.empty(width, np.float32)
    code = np.empty(width, np.uint8)
    for n in range(out.shape[0]):
        a, b, wz = z_low[first + n], z_high[first + n], z_weight[first + n]
        for y in range(out.shape[1]):
            c0, c1, wy = y_low[y], y_high[y], y_weight[y]
            for j in range(begin, end):
                here = codes[a, c0, j]
                same = here == codes[a, c1, j] and here == codes[b, c0, j]
                agreed[j] = here if same and here == codes[b, c1, j] else np.uint8(_MIXED)
            n_open = 0
            for x in range(width):
                here = agreed[x_low[x]]
                if here != _MIXED and here == agreed[x_high[x]]:
                    out[n, y, x] = table[here]
                else:
                    open_[n_open] = x
                    n_open += 1
            if n_open == 0:
                continue
            left, right = x_low[open_[0]], x_high[open_[n_open - 1]] + 1
            for m in range(n_open):
                best[m] = -np.inf
                code[m] = 0
            for c in range(n_channels):
                _interpolated_row(logits, row, c, a, b, wz, c0, c1, wy, left, right)
                for m in range(n_open):
                    x = open_[m]
                    low = row[x_low[x]]
                    value = low + x_weight[x] * (row[x_high[x]] - low)
                    if regions:
                        if value > 0:
                            code[m] = c + 1
                    elif value > best[m]:
                        best[m] = value
                        code[m] = c
            for m in range(n_open):
                out[n, y, open_[m]] = table[code[m]]


@compiled
def _interpolated_row(
    logits: Any, row: Any, c: int, a: int, b: int, wz: float, c0: int, c1: int, wy: float,
    left: int, right: int,
) -> None:  # fmt: skip
    """A channel's logits along x between two slices and two rows of each."""
    low_a, low_b, high_a, high_b = logits[a, c, c0], logits[b, c, c0], logits[a, c, c1], logits[b, c, c1]  # noqa: E501 # fmt: skip
    for j in range(left, right):
        low = low_a[j] + wz * (low_b[j] - low_a[j])
        high = high_a[j] + wz * (high_b[j] - high_a[j])
        row[j] = low + wy * (high - low)


@compiled
def interpolated_chances(
    logits: Any, chances: Any, entropy: Any, groups: Any, regions: bool, first: int,
    z_low: Any, z_high: Any, z_weight: Any,
    y_low: Any, y_high: Any, y_weight: Any,
    x_low: Any, x_high: Any, x_weight: Any,
) -> None:  # fmt: skip
    """Fill (group, n, y, x) probabilities and, where it has room, (n, y, x) entropy in nats.

    Softmax: a group's probability is the sum of its channels'. Regions, which overlap: the
    largest of them; entropy is the largest of the channels', each of two outcomes.
    """
    n_channels, width = logits.shape[1], x_low.shape[0]
    row = np.empty(logits.shape[3], np.float32)
    values = np.empty((n_channels, width), np.float32)
    top = np.empty(width, np.float32)
    near = np.empty(width, np.bool_)
    wants_entropy = entropy.shape[0] > 0
    n_slices = entropy.shape[0] if wants_entropy else chances.shape[1]
    begin, end = x_low[0], x_high[width - 1] + 1
    chances[:] = 0
    for n in range(n_slices):
        a, b, wz = z_low[first + n], z_high[first + n], z_weight[first + n]
        for y in range(y_low.shape[0]):
            top[:] = -np.inf
            for c in range(n_channels):
                _interpolated_row(
                    logits, row, c, a, b, wz, y_low[y], y_high[y], y_weight[y], begin, end
                )
                for x in range(width):
                    low = row[x_low[x]]
                    value = low + x_weight[x] * (row[x_high[x]] - low)
                    values[c, x] = value
                    top[x] = max(top[x], value)
            near[:] = wants_entropy or regions
            for c in range(n_channels):
                if groups[:, c].any():
                    near |= top - values[c] < _REMOTE
            for x in range(width):
                if not near[x]:
                    continue
                if regions:
                    spread = _region_chances(values[:, x], groups, chances[:, n, y, x])
                else:
                    spread = _softmax_chances(values[:, x], top[x], groups, chances[:, n, y, x])
                if wants_entropy:
                    entropy[n, y, x] = spread


@compiled
def _softmax_chances(values: Any, top: float, groups: Any, chances: Any) -> float:
    """Add up the groups' probabilities; returns the entropy."""
    total, mean = 0.0, 0.0
    for c in range(values.shape[0]):
        below = np.float64(values[c] - top)
        if below > -_REMOTE:
            share = np.exp(below)
            total += share
            mean += share * below
            for g in range(groups.shape[0]):
                if groups[g, c]:
                    chances[g] += share
    for g in range(groups.shape[0]):
        chances[g] = min(np.float64(chances[g]) / total, 1.0)
    return float(np.log(total) - mean / total)


@compiled
def _region_chances(values: Any, groups: Any, chances: Any) -> float:
    """Fill the groups' probabilities; returns the largest entropy of a channel."""
    spread = 0.0
    for c in range(values.shape[0]):
        p = 1 / (1 + np.exp(-np.float64(values[c])))
        if 0 < p < 1:
            spread = max(spread, -p * np.log(p) - (1 - p) * np.log(1 - p))
        for g in range(groups.shape[0]):
            if groups[g, c]:
                chances[g] = max(np.float64(chances[g]), p)
    return spread
