"""Scans that are alike among many, found without comparing each with each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pantskit.measure.fingerprint import Descriptions, Fingerprint, Likeness, compare

# Places whose descriptions fall on the same side of so many random planes meet in a bucket; a few
# sets of planes, since noise moves some across. Buckets hold a fraction of a place on average.
_TABLES = 8
# So many that alike anatomy of other patients seldom fills a bucket: with 2 instead of 7, strongly
# changed copies met in 3 places and not in 9.
_SPARE_BITS = 7
# What meets in a large bucket is common anatomy, or empty.
_LARGEST_BUCKET = 12
# Up to so many pairs, all are compared. Of more, those that meet most often: in 4 places at least,
# and no more than 10 a scan, so that the time does not grow with the number of pairs.
_FEW_PAIRS = 5_000
_MEETINGS, _PAIRS_A_SCAN = 4, 10
_CHUNK = 1 << 18
_STRIDE = 1 << 32  # of the first owner in the number of a pair


def find_alike(
    prints: Sequence[Fingerprint], *, fewest_places: int
) -> list[tuple[int, int, Likeness]]:
    """Pairs of scans that agree in at least so many places.

    The time grows with the number of places, not of pairs: sorting them, and comparing the few
    scans of which several places meet.

    Args:
        prints: of the scans.
        fewest_places: that a pair has to agree in.

    Returns:
        Indices of the two, the smaller first, and how they agree; most places first.
    """
    found = [(a, b, compare(prints[a], prints[b])) for a, b in candidates(prints)]
    kept = [pair for pair in found if pair[2].places >= fewest_places]
    return sorted(kept, key=lambda pair: (-pair[2].places, pair[0], pair[1]))


def candidates(prints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Pairs of scans worth comparing: all of few scans, else those of which most places meet."""
    usable = [n for n, p in enumerate(prints) if len(p.places)]
    if len(usable) * (len(usable) - 1) // 2 <= _FEW_PAIRS:
        return list(combinations(usable, 2))
    sizes = [len(p.places) for p in prints]
    owners = np.repeat(np.arange(len(prints), dtype=np.int64), sizes)
    descriptions = np.concatenate([prints[n].descriptions for n in usable])
    bits = min(60, int(np.ceil(np.log2(sum(sizes)))) + _SPARE_BITS)
    random = np.random.default_rng(0)
    meetings = [
        _meetings(_keys(descriptions, random.normal(size=(descriptions.shape[1], bits))), owners)
        for _ in range(_TABLES)
    ]
    pairs, counts = np.unique(np.concatenate(meetings), return_counts=True)
    fewest = _MEETINGS
    while np.count_nonzero(counts >= fewest) > _PAIRS_A_SCAN * len(usable):
        fewest += 1
    chosen = pairs[counts >= fewest]
    return [(int(p // _STRIDE), int(p % _STRIDE)) for p in chosen]


def _keys(descriptions: Descriptions, planes: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) the sides of random planes through the middle of all descriptions, as one number."""
    normals = planes.astype(np.float32)
    sample = descriptions[:: max(1, len(descriptions) // 50_000)].astype(np.float32)
    middle = np.median(sample @ normals, axis=0)
    weights = np.int64(1) << np.arange(planes.shape[1], dtype=np.int64)
    keys = np.empty(len(descriptions), np.int64)
    for start in range(0, len(descriptions), _CHUNK):
        part = slice(start, start + _CHUNK)
        keys[part] = (descriptions[part].astype(np.float32) @ normals > middle) @ weights
    return keys


def _meetings(keys: NDArray[np.int64], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each meeting of two scans in a bucket, as smaller owner x 2^32 + larger owner."""
    order = np.argsort(keys, kind="stable")
    keys, owners = keys[order], owners[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    length = np.diff(np.concatenate((starts, [len(keys)])))
    small = np.repeat(length <= _LARGEST_BUCKET, length)
    keys, owners = keys[small], owners[small]
    met = []
    for apart in range(1, _LARGEST_BUCKET):
        same = keys[:-apart] == keys[apart:]
        a, b = owners[:-apart][same], owners[apart:][same]
        a, b = np.minimum(a, b), np.maximum(a, b)
        met.append((a, b, a != b))
    return np.concatenate([a[d] * _STRIDE + b[d] for a, b, d in met])
