"""What lies under the masks: volume, HU by phase, fat and air, effusions, the labels' own CT."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pantskit.check.border import rim_share
from pantskit.check.findings import Fault, Severity
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.rules.organs import KIDNEYS
from pantskit.check.scan import Scan
from pantskit.core.labels import LESION, PANCREAS, PANCREAS_PARTS, STRUCTURES

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

# Fat in a kidney's mask is the sinus, which is no parenchyma; a tube is mostly border.
_FAT_LIMITS = {
    "kidney_left": "kidney_share",
    "kidney_right": "kidney_share",
    "aorta": "tube_share",
    "postcava": "tube_share",
}

# Organs of water and flesh. The pancreas is not among them: fat grows into it with age.
_SOLID = (
    "liver", "spleen", "kidney_left", "kidney_right", "aorta", "postcava", "bladder", "prostate",
    "gall_bladder",
)  # fmt: skip
_VESSELS = ("aorta", "postcava")
# Those with a border that the CT shows; stomach, duodenum and prostate lie on their like.
_RIMMED = (
    "liver", "spleen", "kidney_left", "kidney_right", "gall_bladder", "bladder", PANCREAS,
    *_VESSELS,
)  # fmt: skip
_SAMPLED = 1_000_000  # voxels of a CT of which HU are counted
_SMOOTHED = 15  # HU that are counted together
_CHANCE = 5.0  # standard deviations of a count that no chance makes
FAT_HU = -40.0  # fat is -120 to -60; half fat and half flesh in one voxel is about -30
_GLAND = (PANCREAS, *PANCREAS_PARTS)
_HOLLOW = ("stomach", "duodenum", "colon")  # what is in view may be all gas
_LUNGS = ("lung_left", "lung_right")
# At their border a voxel that is half lung weighs as much as eight that are half fat: where border
# voxels are many, as in a small spleen on thick slices, the median says what the organ has.
_UNDER_LUNGS = ("liver", "spleen")


@rule(
    "volume",
    WARNING,
    Scope.CONTENT,
    reason="Too large: a neighbour is in the mask, or the spacing is wrong. Too small: annotated "
    "in part, shrunken, removed in part, or the spacing is wrong.",
    standard="The entire organ, without its neighbours.",
)
def volume(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Volume is plausible; what the view cuts may be small, a gland with a tumour large."""
    for structure in (s for s in STRUCTURES if s in scan.regions and s != LESION):
        low, high = scan.ranges.volume_ml(structure)
        ml = scan.ml(structure)
        tumour_ml = 0.0
        if structure in _GLAND:
            tumour_ml = scan.overlap(structure, LESION) * scan.geometry.voxel_volume_mm3 / 1000
        if ml - tumour_ml > high or (ml < low and not scan.cut(structure)):
            text = f"{structure} has {ml:.3g} ml, expected {low:g} to {high:g}"
            # A thin duct is seen in places only.
            thin = ml < low and structure in ("pancreatic_duct", "common_bile_duct")
            yield scan.fault(text, structure, ml, severity=INFO if thin else None)


@rule(
    "lesion-volume",
    WARNING,
    Scope.CONTENT,
    reason="A tumour of half a litre is another organ's, or its voxels have a wrong size.",
    standard="Pancreatic tumours: solid and cystic parts and necrosis, no adjacent organ.",
)
def lesion_volume(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A tumour is not larger than tumours are."""
    if LESION in scan.regions:
        _, high = scan.ranges.volume_ml(LESION)
        if scan.ml(LESION) > high:
            text = f"tumour of {scan.ml(LESION):.0f} ml, expected at most {high:g}"
            yield scan.fault(text, LESION, scan.ml(LESION))


@rule(
    "hu",
    WARNING,
    Scope.CONTENT,
    reason="Mean HU that the organ never has in this phase: wrong place, wrong name, wrong phase.",
    standard="The organ alone, without fat and neighbours.",
    least_voxels=8,
    slack_hu=5,
    thin_share=0.8,
    thin_slack_hu=45,
    border_share=0.25,
)
def hu(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Mean HU under a mask is that of the structure in its phase."""
    if scan.ct is None:
        return
    for structure in (s for s in STRUCTURES if s in scan.regions):
        if scan.regions[structure].voxels < limits["least_voxels"] or _sliver(scan, structure):
            continue
        low, high = scan.ranges.mean_hu(structure, scan.phase)
        mean = scan.mean_hu(structure)
        if structure in _UNDER_LUNGS and scan.edge_share(structure) > limits["border_share"]:
            mean = max(mean, scan.median_hu(structure))
        if structure in _GLAND:  # a cyst in the gland, or a wide duct, is no fault of its mask
            mean, voxels = scan.mean_hu_without(structure, (LESION, "pancreatic_duct"))
            if voxels < limits["least_voxels"]:
                continue
        # Where nearly every voxel is a border one, a third of what it shows is the fat around.
        thin = scan.edge_share(structure) > limits["thin_share"]
        below = limits["thin_slack_hu" if thin else "slack_hu"]
        if not low - below <= mean <= high + limits["slack_hu"]:
            phase = f" ({scan.phase.replace('_', ' ')})" if scan.phase else ""
            text = f"mean of {mean:.0f} HU under {structure}, expected {low:g} to {high:g}{phase}"
            yield scan.fault(text, structure, mean)


def _sliver(scan: Scan, structure: str) -> bool:
    """Whether the view leaves so little of a structure that its mean says nothing of it."""
    if not scan.cut(structure):
        return False
    least_ml, _ = scan.ranges.volume_ml(structure)
    small = 3 * scan.ml(structure) < least_ml or scan.edge_share(structure) > 0.8
    return structure in _HOLLOW or small


@rule(
    "hu-offset",
    ERROR,
    Scope.CONTENT,
    reason="Fat is -120 to -75 HU in every phase: elsewhere, a slope or intercept was lost.",
    lowest_hu=-135,
    highest_hu=-65,
    share=0.05,
    narrow_mm=100,
)
def hu_offset(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The commonest HU between those of air and of water is that of fat.

    In a crop it may be that of fat and flesh mixed: there it is a warning.
    """
    peak, share = fat_peak(scan)
    if share > limits["share"] and not limits["lowest_hu"] <= peak <= limits["highest_hu"]:
        narrow = sorted(scan.geometry.extent_mm)[1] < limits["narrow_mm"]
        severity = WARNING if narrow else None
        text = (
            f"fat has {peak:.0f} HU, expected {limits['lowest_hu']:g} to {limits['highest_hu']:g}"
        )
        yield Fault(
            f"{text}: all HU are off by about {peak + 100:+.0f}", value=peak, severity=severity
        )


def fat_peak(scan: Scan) -> tuple[float, float]:
    """HU of the highest peak from -220 to -20, and the share of voxels above -250 in it (+-20).

    0 and 0 where there is no CT, or no peak that is more than chance: a crop with little fat has
    borders of gas and flesh at all of these values.
    """
    if scan.ct is None:
        return 0.0, 0.0
    step = max(1, int((scan.ct.size / _SAMPLED) ** (1 / 3)))
    levels = np.clip(scan.ct[::step, ::step, ::step], -250, 250).astype(np.int64).ravel() + 250
    counts = np.bincount(levels, minlength=501)[1:].astype(np.float64)
    if levels.min() > 0:  # no air: what was darker is cut to this value
        counts[levels.min() - 1] = 0
    smooth = np.convolve(counts, np.ones(_SMOOTHED), "same")
    window = np.arange(29, 230)  # index 0 is -249 HU
    tops = [n for n in window.tolist() if smooth[n] == smooth[n - 12 : n + 13].max()]
    if not tops:
        return 0.0, 0.0
    n = max(tops, key=smooth.__getitem__)
    if not _stands_out(smooth, n):
        return 0.0, 0.0
    return n - 249.0, float(counts[n - 20 : n + 21].sum() / max(counts.sum(), 1))


def _stands_out(smooth: NDArray[np.float64], n: int) -> bool:
    """Whether a peak is above the lowest values on both sides by more than counts vary.

    Args:
        smooth: (500,) voxels in windows around each HU from -249.
        n: index of the peak, below 240; flesh has the next one, 60 to 260 HU above it.
    """
    flesh = n + 60 + int(smooth[n + 60 : n + 260].argmax())
    valley = max(smooth[_SMOOTHED // 2 : n + 1].min(), smooth[n : flesh + 1].min())
    return bool(smooth[n] - valley > _CHANCE * np.sqrt(smooth[n] + valley))


@rule(
    "other-ct",
    ERROR,
    Scope.CONTENT,
    reason="Same grid, other content: the labels were cut from another scan or another slab.",
    share=0.35,
    many_share=0.15,
    many=3,
    least_voxels=50,
)
def other_ct(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Solid organs do not lie on fat and air, nor lungs on flesh: the labels are of this CT."""
    if scan.ct is None:
        return
    judged, wrong, some = 0, [], []
    for structure in (*_SOLID, *_LUNGS):
        region = scan.regions.get(structure)
        if region is None or region.voxels < limits["least_voxels"]:
            continue
        judged += 1
        low, high = (-100, 3072) if structure in _LUNGS else (-1024, FAT_HU)
        share = scan.share_between(structure, low, high)
        if share > limits["share"]:
            wrong.append((share, structure))
        if share > limits["many_share"] and structure not in _LUNGS:
            some.append((share, structure))
    if len(wrong) < 2 and len(some) >= limits["many"]:
        wrong = some  # one organ may be drawn too wide, not many at once
    if not wrong:
        return
    share, structure = max(wrong)
    what = "flesh" if structure in _LUNGS else "fat or air"
    if len(wrong) >= 2 or judged == 1:
        yield scan.fault(
            f"{share:.0%} of {structure} lies on {what}; {len(wrong)} of {judged} organs do: "
            "the labels belong to another CT or another place",
            structure,
            share,
        )
    else:
        text = f"{share:.0%} of {structure} lies on {what}: the mask is in the wrong place"
        yield scan.fault(text, structure, share, severity=WARNING)


@rule(
    "fat",
    WARNING,
    Scope.CONTENT,
    reason="The mask reaches into the fat around: drawn too wide, or shifted.",
    standard="Liver, spleen, kidneys, vessels, bladder and prostate exclude the surrounding fat; "
    "kidneys exclude the fat of the renal sinus.",
    share=0.12,
    kidney_share=0.08,
    tube_share=0.2,
    least_voxels=50,
)
def fat(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Little of a solid organ is fat or air."""
    if scan.ct is None:
        return
    for structure in (s for s in (*_SOLID, LESION) if s in scan.regions):
        if scan.regions[structure].voxels < limits["least_voxels"] or _sliver(scan, structure):
            continue
        share = scan.share_between(structure, -1024, FAT_HU)
        most = limits[_FAT_LIMITS.get(structure, "share")]
        if most < share <= 0.35:  # beyond, other-ct tells
            text = f"{share:.0%} of {structure} is fat or air"
            yield scan.fault(text, structure, share)


@rule(
    "rim",
    WARNING,
    Scope.CONTENT,
    reason="All around the mask the CT shows what is in it: drawn too small, or eroded.",
    standard="The entire parenchyma, or the entire lumen with its wall.",
    share=0.45,
    vessel_share=0.55,
    distance_mm=3,
    least_voxels=200,
)
def rim(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Around an organ lies something else than in it: fat, air, other organs."""
    if scan.ct is None:
        return
    for structure in (s for s in _RIMMED if s in scan.regions):
        if scan.regions[structure].voxels < limits["least_voxels"]:
            continue
        share = rim_share(scan, structure, distance_mm=limits["distance_mm"])
        if share > limits["vessel_share" if structure in _VESSELS else "share"]:
            text = f"{share:.0%} of what surrounds {structure} looks as its inside does"
            yield scan.fault(f"{text}: the mask is too small", structure, share)


@rule(
    "effusion",
    WARNING,
    Scope.CONTENT,
    reason="Fluid around the lung is no lung; a collapsed or inflamed lung is.",
    standard="Lungs: parenchyma and lesions, without pleural effusion, mediastinum and chest wall.",
    share=0.12,
    fluid_share=0.06,
    least_voxels=500,
)
def effusion(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Little of a lung's mask is as dense as water, or as flesh, which a collapsed lung is."""
    if scan.ct is None:
        return
    for lung in (s for s in _LUNGS if s in scan.regions):
        if scan.regions[lung].voxels < limits["least_voxels"]:
            continue
        fluid, share = scan.share_between(lung, -20, 35), scan.share_between(lung, -50, 200)
        if share > limits["share"] or fluid > limits["fluid_share"]:
            text = f"{share:.0%} of {lung} is as dense as fluid or flesh: an effusion in the mask?"
            yield scan.fault(text, lung, share)


@rule(
    "phase",
    ERROR,
    Scope.CONTENT,
    reason="The table's contrast phase contradicts the CT: wrong phases were reported by users.",
    plain_aorta_hu=90,
    late_aorta_hu=220,
    arterial_aorta_hu=140,
    excreted_hu=120,
)
def phase(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Aorta, portal vein and kidneys are as bright as the phase in the metadata makes them."""
    if scan.ct is None or scan.phase is None or "aorta" not in scan.regions:
        return
    aorta = scan.median_hu("aorta")
    vein = scan.median_hu("veins") if "veins" in scan.regions else None
    told, seen = scan.phase, ""
    if told == "non_contrast" and aorta > limits["plain_aorta_hu"]:
        seen = "contrast medium"
    elif told != "non_contrast" and aorta < 0.8 * limits["plain_aorta_hu"]:
        seen = "no contrast medium" if _kidneys(scan) < 80 else ""
    elif told == "arterial" and (
        vein > 0.85 * aorta if vein else aorta < limits["arterial_aorta_hu"]
    ):
        seen = "a later phase"
    elif told in ("portal_venous", "delayed") and aorta > limits["late_aorta_hu"]:
        seen = "the arterial phase" if vein is None or vein < 0.75 * aorta else ""
    severity = None
    if not seen and told in ("portal_venous", "delayed"):
        seen, severity = _excretion(scan, told, aorta, limits), WARNING
    if seen:
        veins = "" if vein is None else f", of the portal vein {vein:.0f} HU"
        text = f"metadata says {told.replace('_', ' ')}, the CT shows {seen}: median of the aorta "
        yield scan.fault(f"{text}{aorta:.0f} HU{veins}", "aorta", aorta, severity=severity)


def _excretion(scan: Scan, told: str, aorta: float, limits: Limits) -> str:
    """What the bladder says of the time since the injection, where it contradicts the table."""
    if "bladder" not in scan.regions:
        return ""
    bladder = scan.median_hu("bladder")
    if told == "portal_venous" and bladder > limits["excreted_hu"]:
        return "excretion into the bladder, as in a delayed phase (or an earlier injection)"
    if (
        told == "delayed"
        and bladder < limits["excreted_hu"] / 2
        and aorta > 1.2 * limits["excreted_hu"]
    ):
        return "bright vessels and no excretion, as in the portal venous phase"
    return ""


def _kidneys(scan: Scan) -> float:
    """Median HU of the brighter kidney; below 0 where none is in view."""
    both = [s for s in KIDNEYS if s in scan.regions]
    return max((scan.median_hu(s) for s in both), default=-1.0)
