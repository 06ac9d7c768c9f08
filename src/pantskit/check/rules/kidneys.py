"""What a kidney's mask leaves out: the renal pelvis and the fat of the sinus."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pantskit.check.findings import Fault, Severity
from pantskit.check.region import Region
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.rules.content import FAT_HU
from pantskit.check.rules.organs import KIDNEYS
from pantskit.check.scan import Scan
from pantskit.measure.shape import Part, parts_of

WARNING = Severity.WARNING


@rule(
    "renal-pelvis",
    WARNING,
    Scope.CONTENT,
    reason="What is brighter than any parenchyma is contrast medium in the renal pelvis.",
    standard="Kidneys: parenchyma without renal pelvis and ureter.",
    least_ml=0.7,
    bright_hu=260,
    brighter_hu=80,
    cortex_share=0.2,
    than_blood_hu=60,
    artery_ml=1.2,
)
def renal_pelvis(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A kidney's mask holds no excreted contrast medium; in late phases it would show.

    It lies in one piece; single bright voxels are noise. In the arterial phase, after an earlier
    injection, it is told from the cortex, which is the brightest fifth of a kidney and more and
    no brighter than the aorta, and where it has the aorta's brightness itself, from arteries:
    1.2 ml are 5 cm of one of 5.5 mm.
    """
    if scan.ct is None:
        return
    early = scan.phase == "arterial"
    blood = scan.median_hu("aorta") if "aorta" in scan.regions else np.inf
    for kidney in (s for s in KIDNEYS if s in scan.regions):
        usual = scan.median_hu(kidney)
        if early:
            usual = min(scan.quantile_hu(kidney, 1 - limits["cortex_share"]), blood)
        least = max(limits["bright_hu"], usual + limits["brighter_hu"])
        looks = [(least, limits["artery_ml" if early else "least_ml"])]
        if early:
            looks.append((max(least, blood + limits["than_blood_hu"]), limits["least_ml"]))
        for above, least_ml in looks:
            part = _bright_part(scan, kidney, above)
            ml = part.voxels * scan.geometry.voxel_volume_mm3 / 1000 if part else 0.0
            if part and ml > least_ml:
                text = f"{ml:.1f} ml of {kidney} in one piece are above {above:.0f} HU"
                text = f"{text}: renal pelvis in the mask (or a large stone)"
                yield scan.fault(text, kidney, ml, at=scan.inside(kidney, part))
                break


def _bright_part(scan: Scan, structure: str, above_hu: float) -> Part | None:
    """The largest connected part of a structure that is brighter than that."""
    assert scan.ct is not None
    region = scan.regions[structure]
    bright = region.array & (scan.ct[region.box] > above_hu)
    return parts_of(bright)[0] if bright.any() else None


@rule(
    "renal-sinus",
    WARNING,
    Scope.CONTENT,
    reason="Fat deep in a kidney's mask is its sinus, with the renal pelvis in it: filled in.",
    standard="Kidneys: parenchyma without renal pelvis, ureter and fat.",
    least_ml=0.4,
)
def renal_sinus(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A kidney's mask holds no fat further inside than a voxel."""
    if scan.ct is None:
        return
    for kidney in (s for s in KIDNEYS if s in scan.regions):
        region = scan.regions[kidney]
        fat = region.inner & (scan.ct[region.box] < FAT_HU)
        ml = int(np.count_nonzero(fat)) * scan.geometry.voxel_volume_mm3 / 1000
        if ml > limits["least_ml"]:
            at = scan.at(Region(np.asfortranarray(fat), region.start).widest)
            text = f"{ml:.1f} ml of fat deep in {kidney}: the renal sinus is filled in"
            yield scan.fault(text, kidney, ml, at=at)
