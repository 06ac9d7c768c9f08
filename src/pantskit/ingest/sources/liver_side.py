"""The side of the liver, looked for in a CT where no label tells it.

Between the lower end of the kidneys and 50 mm above them the right half of a body holds the liver,
the left one the spleen, which is smaller, and bowel, which is not solid. So more solid tissue lies
on the right: 3 to 20 times as much on phantoms and on a real scan.
"""

from __future__ import annotations

import numpy as np

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.errors import Quarantined
from pantskit.core.volume import Volume

_COARSE_MM = 4.0
_SOLID_HU = (20.0, 220.0)
_DEPTH_MM = 15.0  # deep inside solid tissue: muscle and bowel are thinner than twice that
_ABOVE_KIDNEYS_MM = 50.0
_SPINE_MM = 30.0
# Believed when clear: a large spleen beside a fatty liver must not look like a mirrored scan.
_ENOUGH_ML, _TIMES = 200.0, 2.0


def solid_tissue_ml(scan: Volume, coded: CodedMasks, middle: float) -> tuple[float, float] | None:
    """Solid tissue without labels to the right and to the left of the spine, at the kidneys.

    Args:
        scan: HU.
        coded: masks on its grid; the kidneys tell the height, and what is labelled is left out.
        middle: x in mm of the middle of the body.

    Returns:
        Millilitres on the right and on the left; None without a labelled kidney.
    """
    from scipy import ndimage

    steps = [max(1, round(_COARSE_MM / s)) for s in scan.geometry.spacing]
    every = tuple(slice(None, None, step) for step in steps)
    names = {c for c, s in enumerate(coded.sets) if s & {"kidney_left", "kidney_right"}}
    codes = coded.codes[every]
    kidneys = np.argwhere(np.isin(codes, sorted(names))) * steps
    if not names or not len(kidneys):
        return None
    heights = scan.geometry.to_world(kidneys)[:, 2]
    spacing = np.array(scan.geometry.spacing) * steps
    smooth = ndimage.uniform_filter(scan.array[every].astype(np.float32), 3)
    solid = (smooth > _SOLID_HU[0]) & (smooth < _SOLID_HU[1])
    deep = ndimage.distance_transform_edt(solid, sampling=spacing) >= _DEPTH_MM
    places = scan.geometry.to_world(np.argwhere(deep & (codes == 0)) * steps)
    low, high = heights.min(), heights.max() + _ABOVE_KIDNEYS_MM
    offset = places[(places[:, 2] >= low) & (places[:, 2] <= high), 0] - middle
    ml = float(np.prod(spacing)) / 1000
    return float((offset > _SPINE_MM).sum() * ml), float((offset < -_SPINE_MM).sum() * ml)


def require_liver_on_the_right(scan: Volume, coded: CodedMasks, middle: float) -> dict[str, float]:
    """Refuse a scan whose solid tissue says that it is mirrored.

    Returns:
        For the record: what `solid_tissue_ml` found; `{}` where it cannot be told.

    Raises:
        Quarantined: If at least twice as much lies on the left, and not little.
    """
    found = solid_tissue_ml(scan, coded, middle)
    if found is None:
        return {}
    right, left = found
    if left >= _ENOUGH_ML and left >= _TIMES * right:
        raise Quarantined(
            f"the liver seems to lie on the left: {left:.0f} ml of solid tissue there beside the "
            f"kidneys, {right:.0f} ml on the right. CT and label are likely mirrored along x (left "
            "and right), or the organs are (situs inversus). Look at it; a mirrored scan has its "
            "affine's first row negated"
        )
    return {"solid_right_ml": round(right), "solid_left_ml": round(left)}
