"""The size of everything at once: a wrong spacing makes every organ too large or too small."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pantskit.check.findings import Fault, Severity
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.scan import Scan

# Organs that are much alike in adults, and that an illness seldom makes several times larger.
_STEADY = (
    "liver", "spleen", "kidney_left", "kidney_right", "pancreas", "duodenum", "adrenal_gland_left",
    "adrenal_gland_right", "stomach", "lung_left", "lung_right", "femur_left", "femur_right",
)  # fmt: skip


@rule(
    "scale",
    Severity.ERROR,
    Scope.CONTENT,
    reason="One wrong spacing, and every volume, every distance and every statement on size is "
    "wrong; single volumes out of range are told by `volume`.",
    factor=5,
    organs=4,
)
def scale(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Organs of all kinds are not together several times too large, or too small."""
    ratios = {}
    for organ in (s for s in _STEADY if s in scan.regions):
        low, high = scan.ranges.volume_ml(organ)
        ratio = scan.ml(organ) / np.sqrt(low * high)
        if not scan.cut(organ) or ratio > 1:  # what the view cuts is larger than what it shows
            ratios[organ] = float(ratio)
    if len(ratios) < limits["organs"]:
        return
    middle = float(np.median(list(ratios.values())))
    if 1 / limits["factor"] <= middle <= limits["factor"]:
        return
    times, what = (middle, "large") if middle > 1 else (1 / middle, "small")
    spacing = ", ".join(f"{s:.4g}" for s in scan.geometry.spacing)
    text = (
        f"half of {len(ratios)} organs are {times:.0f} times too {what} or more: the spacing of "
        f"({spacing}) mm is wrong, by about {times ** (1 / 3):.1f} times along each axis"
    )
    organ = min(ratios, key=lambda s: abs(ratios[s] - middle))
    yield scan.fault(text, organ, middle)
