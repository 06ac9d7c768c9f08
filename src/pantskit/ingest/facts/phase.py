"""Contrast phase: by the header's words when they are clear and plausible, else by HU of organs.

Each rule strikes out phases that the HU of a labelled organ exclude. One phase left is the answer;
several, and it is not clear. Thresholds are published values with a margin:

- blood without contrast has 40 to 70 HU, less in anaemia (Foster et al. 2004 and others on CT of
  anaemia), unenhanced kidneys 30 to 50, spleen 35 to 60; the plausible ranges of
  core/data/structures.toml agree.
- late arterial: aorta 290 to 360, portal vein 145 +- 20, liver 20 to 30 above its plain value
  (Radiopaedia, "Late arterial phase", 2023). Early arterial: the portal vein is not yet
  enhanced (LI-RADS v2018).
- 10 to 15 s after 50 HU in the aorta it gained 300 to 336, the portal vein 75 to 104, the liver 15
  to 25, and the spleen was 81 to 84 above the liver; 45 to 55 s after it (portal venous) the
  aorta gained 117 to 125, spleen 73 to 82, liver 59 to 63, its most (Goshima et al., AJR 2006:
  bolus tracking in multidetector CT of the liver). The portal vein is then fully enhanced
  (LI-RADS v2018), the aorta no brighter than it.
- renal cortex exceeds medulla by 110 to 140 HU until 30 s after the trigger, by less than 30 from
  45 s on (PMID 17367973).
- aorta and vena cava differ by 30 HU or more in the bolus phase, by less than 10 in equilibrium
  (Burgener and Hamlin 1981, as taught since).

What lies between them (a pancreatic phase at 45 s, a low dose with equal vessels) stays unclear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.dataset import PHASES
from pantskit.ingest.facts.sample import Sample, Steps
from pantskit.measure.compiled import compiled

# Organs that tell a phase, and the structures whose voxels they take together.
ORGANS = {
    "aorta": ("aorta",),
    "portal vein": ("veins",),
    "vena cava": ("postcava",),
    "kidneys": ("kidney_left", "kidney_right"),
    "spleen": ("spleen",),
    "liver": ("liver",),
    "bladder": ("bladder",),
}

# A median over 100 voxels with 30 HU of noise is known to 4 HU.
FEWEST_VOXELS = 100

PLAIN_BLOOD = 45.0
BLOOD_PLAIN_TO, BLOOD_ENHANCED_FROM = 70.0, 90.0
KIDNEYS_PLAIN_TO, KIDNEYS_ENHANCED_FROM = 50.0, 70.0
SPLEEN_PLAIN_TO, SPLEEN_ENHANCED_FROM = 60.0, 75.0

# Share of the aorta's enhancement that the portal vein has: published 0.25 to 0.36 when arterial
# and 1 or more when portal venous; the limits lie between.
ARTERIAL_SHARE_TO, PORTAL_SHARE_FROM = 0.5, 0.8
ARTERIAL_AORTA_FROM = 150.0
PORTAL_AORTA_TO = 250.0
PORTAL_VEIN_FROM, PORTAL_VEIN_ABOVE_ARTERIAL = 80.0, 165.0
EARLY_PORTAL_VEIN_TO, LATE_PORTAL_VEIN_FROM = 80.0, 100.0
SPLEEN_OVER_LIVER_TO = 30.0
DELAYED_VESSEL_TO, EQUILIBRIUM_VESSEL_TO = 150.0, 130.0
BOLUS_DIFFERENCE, EQUILIBRIUM_DIFFERENCE = 30.0, 10.0
PORTAL_VEIN_OVER_LIVER = 40.0  # in equilibrium the liver stands out less

# Quartiles of the whole kidney: noise of 20 HU alone gives 27, two tissues 110 apart over 80.
ONE_KIDNEY_TISSUE, TWO_KIDNEY_TISSUES = 45.0, 80.0
NEPHROGRAM_FROM = 110.0
EXCRETED_URINE_FROM, EXCRETION_IN_KIDNEYS_FROM = 150.0, 300.0

# Large volumes are measured on every second row and slice, or fewer: medians stay, time goes.
_ENOUGH_VOXELS = 2e7
_LOWEST, _HIGHEST = -1000, 1000
_BINS = _HIGHEST - _LOWEST + 1


@dataclass(frozen=True)
class OrganHU:
    """HU inside one organ.

    Medians are of the whole mask, not of an eroded one: in the thinnest organ used, a portal
    vein of 12 mm at voxels of 0.8 mm, a quarter of the voxels touch the wall, which moves the
    median by a third of the noise, while erosion leaves nothing of it at 3 mm.

    Attributes:
        voxels: number of them that were measured.
        median, iqr: HU and the distance of the quartiles.
        p90, p98: HU that a tenth and a fiftieth of the voxels exceed.
    """

    voxels: int
    median: float
    iqr: float = 0.0
    p90: float = 0.0
    p98: float = 0.0


@dataclass(frozen=True)
class Phase:
    """The contrast phase of a scan and how it was told.

    Attributes:
        value: one of core.dataset.PHASES, or None where it is not clear.
        source: `"header"`, `"hu"` or None.
        reason: how it was told, in our words, with the HU.
        header: by the words of the header, or None.
        hu: by the HU alone, or None where they leave several.
        timing: `"early"` or `"late"` of an arterial phase by HU, else None.
        organs: organ to median HU.
    """

    value: str | None
    source: str | None
    reason: str
    header: str | None = None
    hu: str | None = None
    timing: str | None = None
    organs: dict[str, int] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """Its columns of the metadata table."""
        return {"phase": self.value, "phase_source": self.source}

    def as_record(self) -> dict[str, Any]:
        """For the case's record."""
        return {
            **self.columns(),
            "phase_reason": self.reason,
            "phase_header": self.header,
            "phase_hu": self.hu,
            "arterial_timing": self.timing,
            "organ_hu": self.organs,
        }


def decide_phase(
    header_phase: str | None, header_reason: str, organ_hu: Mapping[str, OrganHU] | None
) -> Phase:
    """The contrast phase by both locks: words that HU exclude are not believed.

    Args:
        header_phase, header_reason: from `describe.header_phase`.
        organ_hu: from `measure_organs`; None or {} where nothing is labelled.

    Returns:
        The header's phase while HU allow it; else the only one that HU leave; else None. HU
        that exclude every phase (masks that lie elsewhere) decide nothing.
    """
    organs = {name: o for name, o in (organ_hu or {}).items() if o.voxels >= FEWEST_VOXELS}
    left = phases_left(organs)
    numbers = ", ".join(f"{name} {o.median:.0f}" for name, o in organs.items())
    by_hu = next(iter(left)) if len(left) == 1 else None
    timing = _arterial_timing(organs) if by_hu == "arterial" else None
    medians = {name: round(o.median) for name, o in organs.items()}
    phase = Phase(None, None, "", header_phase, by_hu, timing, medians)
    if not left:
        reason = f"{header_reason}; HU of the organs contradict each other ({numbers})"
        source = "header" if header_phase else None
        return replace(phase, value=header_phase, source=source, reason=reason)
    if header_phase in left:
        agree = "HU agree" if by_hu else "HU allow it"
        reason = f"{header_reason}; {agree}: {numbers}" if numbers else header_reason
        return replace(phase, value=header_phase, source="header", reason=reason)
    told = f"{header_reason} {_said(header_phase)}, which HU exclude" if header_phase else ""
    if by_hu:
        early = f"{timing} " if timing else ""
        reason = f"by HU, {early}{_said(by_hu)}: {numbers}"
        reason = f"{reason}; {told}" if told else reason
        return replace(phase, value=by_hu, source="hu", reason=reason)
    several = " or ".join(_said(p) for p in PHASES if p in left)
    reason = f"{told or header_reason}; HU leave {several}: {numbers}" if numbers else header_reason
    return replace(phase, reason=reason)


def _said(phase: str | None) -> str:
    return (phase or "").replace("_", " ").replace("non contrast", "non-contrast")


def measure_organs(ct: NDArray[np.int16], masks: CodedMasks) -> dict[str, OrganHU]:
    """HU inside the organs that tell a phase, in one pass over the labels.

    Args:
        ct: (i, j, k) HU; values beyond -1000 and 1000 count as those.
        masks: on the CT's grid.

    Returns:
        Organ of `ORGANS` to its HU; organs that are not annotated or empty are missing.
    """
    return measure_sample(Sample.of(ct, organ_steps(ct.shape)), masks)


def organ_steps(shape: tuple[int, ...]) -> Steps:
    """Which voxels of a CT are enough for `measure_sample`.

    Above 45 million voxels every second row of every second slice is taken, above 125 million
    fewer.
    """
    step = max(1, round((math.prod(shape) / _ENOUGH_VOXELS) ** 0.5))
    return 1, step, step


def measure_sample(sample: Sample, masks: CodedMasks) -> dict[str, OrganHU]:
    """The same from a sample of the CT.

    Args:
        sample: HU, thinned by `organ_steps`.
        masks: on the CT's grid, not thinned.
    """
    found = {}
    for name, counts in _histograms(sample, masks).items():
        total = int(counts.sum())
        if total:
            upto = np.cumsum(counts)
            low, median, high, p90, p98 = (
                float(np.searchsorted(upto, share * total) + _LOWEST)
                for share in (0.25, 0.5, 0.75, 0.9, 0.98)
            )
            found[name] = OrganHU(total, median, high - low, p90, p98)
    return found


def _histograms(sample: Sample, masks: CodedMasks) -> dict[str, NDArray[np.int64]]:
    i, j, k = sample.steps
    thinned = masks.codes[::i, ::j, ::k]
    organs = [frozenset(members) for members in ORGANS.values()]
    told = [any(not organ.isdisjoint(held) for organ in organs) for held in masks.sets]
    # A row of the table for each code that is of use; the others share row 0, which is not read.
    rows = np.cumsum(told) * np.array(told)
    table = np.zeros((int(rows.max(initial=0)) + 1, _BINS), np.int64)
    row_of = np.zeros(np.iinfo(masks.codes.dtype).max + 1, np.uint16)
    row_of[: len(rows)] = rows
    for n in range(thinned.shape[2]):
        codes, hu = thinned[:, :, n].ravel("F"), sample.array[:, :, n].ravel("F")
        _count(codes, hu, row_of, table)
    return {
        name: table[
            [r for r, held in zip(rows, masks.sets, strict=True) if r and organ & held]
        ].sum(0)
        for name, organ in zip(ORGANS, organs, strict=True)
    }


@compiled
def _count(codes: Any, hu: Any, row_of: Any, table: Any) -> None:
    """Add the voxels to the histogram of their row; row 0 counts nothing."""
    for n in range(len(codes)):
        row = row_of[codes[n]]
        if row:
            table[row, min(max(hu[n], _LOWEST), _HIGHEST) - _LOWEST] += 1


def phases_left(organs: Mapping[str, OrganHU]) -> set[str]:
    """Phases that the HU of the organs do not exclude: all four where nothing is measured."""
    hu = {name: organ.median for name, organ in organs.items()}
    excluded = (
        _by_enhancement(hu) | _by_vessels(hu) | _by_kidneys(organs) | _by_equilibrium(hu, organs)
    )
    return set(PHASES) - excluded


def _by_enhancement(hu: Mapping[str, float]) -> set[str]:
    """Is there contrast at all?"""
    out: set[str] = set()
    vessels = [hu[v] for v in ("aorta", "portal vein", "vena cava") if v in hu]
    if vessels and max(vessels) >= BLOOD_ENHANCED_FROM:
        out.add("non_contrast")
    # Veins stay plain in the early arterial phase, the aorta in none.
    if hu.get("aorta", BLOOD_ENHANCED_FROM) <= BLOOD_PLAIN_TO:
        out |= {"arterial", "portal_venous", "delayed"}
    if hu.get("portal vein", BLOOD_ENHANCED_FROM) <= BLOOD_PLAIN_TO:
        out |= {"portal_venous", "delayed"}
    for organ, plain, enhanced in (
        ("kidneys", KIDNEYS_PLAIN_TO, KIDNEYS_ENHANCED_FROM),
        ("spleen", SPLEEN_PLAIN_TO, SPLEEN_ENHANCED_FROM),
    ):
        if organ in hu and hu[organ] <= plain:
            out |= {"portal_venous", "delayed"}
        if organ in hu and hu[organ] >= enhanced:
            out.add("non_contrast")
    return out


def _by_vessels(hu: Mapping[str, float]) -> set[str]:
    """Has the contrast reached the portal vein?"""
    out: set[str] = set()
    aorta, portal = hu.get("aorta"), hu.get("portal vein")
    if aorta is not None:
        if aorta < ARTERIAL_AORTA_FROM:
            out.add("arterial")
        else:
            out.add("delayed")
        if aorta > PORTAL_AORTA_TO:
            out.add("portal_venous")
    if portal is not None:
        if portal < PORTAL_VEIN_FROM:
            out.add("portal_venous")
        if portal >= DELAYED_VESSEL_TO:
            out.add("delayed")
        if aorta is None and portal > PORTAL_VEIN_ABOVE_ARTERIAL:
            out.add("arterial")
    if aorta is not None and portal is not None and aorta >= BLOOD_ENHANCED_FROM:
        share = (portal - PLAIN_BLOOD) / (aorta - PLAIN_BLOOD)
        if share <= ARTERIAL_SHARE_TO:
            out |= {"portal_venous", "delayed"}
        if share >= PORTAL_SHARE_FROM:
            out.add("arterial")
    spleen, liver = hu.get("spleen", 0.0), hu.get("liver", -np.inf)
    if spleen >= SPLEEN_ENHANCED_FROM and spleen - liver <= SPLEEN_OVER_LIVER_TO:
        out.add("arterial")
    return out


def _by_kidneys(organs: Mapping[str, OrganHU]) -> set[str]:
    """Do cortex and medulla differ?"""
    kidneys = organs.get("kidneys")
    if kidneys is None or kidneys.median < KIDNEYS_ENHANCED_FROM:
        return set()
    if kidneys.median >= NEPHROGRAM_FROM and kidneys.iqr <= ONE_KIDNEY_TISSUE:
        return {"arterial"}
    return {"delayed"} if kidneys.iqr >= TWO_KIDNEY_TISSUES else set()


def _by_equilibrium(hu: Mapping[str, float], organs: Mapping[str, OrganHU]) -> set[str]:
    """Is the contrast in all vessels alike, or in the urine?"""
    aorta = hu.get("aorta")
    if aorta is None or aorta < BLOOD_ENHANCED_FROM:
        return set()
    veins = [hu[v] for v in ("portal vein", "vena cava") if v in hu]
    if any(aorta - vein >= BOLUS_DIFFERENCE for vein in veins):
        return {"delayed"}
    alike = bool(veins) and all(abs(aorta - vein) < EQUILIBRIUM_DIFFERENCE for vein in veins)
    if not alike or aorta >= DELAYED_VESSEL_TO:
        return set()
    faded = aorta < EQUILIBRIUM_VESSEL_TO
    liver_stands_out = max(veins) - hu.get("liver", max(veins)) < PORTAL_VEIN_OVER_LIVER
    # Urine may hold contrast of an earlier injection; with vessels alike it is this one's.
    if (faded and liver_stands_out) or _excreted(organs):
        return {"arterial", "portal_venous"}
    return set()


def _excreted(organs: Mapping[str, OrganHU]) -> bool:
    bladder, kidneys = organs.get("bladder"), organs.get("kidneys")
    in_bladder = bladder is not None and bladder.p90 >= EXCRETED_URINE_FROM
    return in_bladder or (kidneys is not None and kidneys.p98 >= EXCRETION_IN_KIDNEYS_FROM)


def _arterial_timing(organs: Mapping[str, OrganHU]) -> str | None:
    """Early while the portal vein is plain, late when it is enhanced; None between."""
    portal = organs.get("portal vein")
    if portal is None:
        return None
    if portal.median < EARLY_PORTAL_VEIN_TO:
        return "early"
    return "late" if portal.median >= LATE_PORTAL_VEIN_FROM else None
