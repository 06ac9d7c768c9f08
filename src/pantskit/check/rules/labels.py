"""Masks against one another: empty, too small, overlapping, in pieces that should be one."""

from __future__ import annotations

from collections.abc import Iterator

from pantskit.check.findings import Fault, Severity
from pantskit.check.registry import Limits, Scope, rule
from pantskit.check.scan import Scan
from pantskit.core.labels import LESION, PANCREAS, PANCREAS_PARTS, STRUCTURES

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

# Of what an empty mask may be the sign.
_CAUSES = {
    "gall_bladder": "removed, or shrunken without bile?",
    "kidney_left": "removed, or never formed?",
    "kidney_right": "removed, or never formed?",
    "spleen": "removed?",
    "stomach": "removed?",
    "prostate": "a woman, or removed?",
    "bladder": "removed?",
    "pancreas_head": "removed by a Whipple operation?",
    "pancreas_tail": "removed by a left resection?",
    "pancreas": "removed?",
    "duodenum": "removed by a Whipple operation?",
    "pancreatic_duct": "not seen?",
    "common_bile_duct": "not seen, or removed?",
}
_BELOW = {"bladder", "prostate", "femur_left", "femur_right"}
_ABOVE = {"lung_left", "lung_right"}
_ABDOMEN = {"liver", "spleen", "pancreas", "kidney_left", "kidney_right", "stomach"}


@rule(
    "empty",
    INFO,
    Scope.LABELS,
    reason="Annotated and empty says that the structure is not there: training learns that.",
    named=4,
)
def empty(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """An organ that was annotated has voxels; a tumour, or a woman's prostate, need not.

    Where the view leaves more out than it shows, many are told in one line.
    """
    female = str(scan.metadata.get("sex") or "").strip().upper() == "F"
    some = [
        s
        for s in STRUCTURES
        if s in scan.empty and s != LESION and not (s == "prostate" and female)
    ]
    part_only = len(scan.empty) > len(scan.regions)
    if part_only and len(some) > limits["named"]:
        if scan.regions:  # else all-empty tells
            names = ", ".join(some[:3])
            text = f"{len(some)} structures are annotated and empty (out of view?): {names} and "
            yield Fault(f"{text}{len(some) - 3} more", value=len(some))
        return
    for structure in some:
        cause = "out of view?" if part_only else _cause(scan, structure)
        title = STRUCTURES[structure].title
        yield Fault(f"{title} is annotated and empty ({cause})", structure, 0)


def _cause(scan: Scan, structure: str) -> str:
    """Of what an empty mask may be the sign, by what else is in view."""
    there, cause = set(scan.regions), _CAUSES.get(structure, "")
    around = _BELOW if structure in _BELOW else _ABOVE if structure in _ABOVE else _ABDOMEN
    if not cause or not there & around:
        return "out of view?"
    cut = around is _ABDOMEN and any(scan.cut(s) for s in there & around)
    return f"{cause.removesuffix('?')}, or out of view?" if cut else cause


@rule(
    "empty-in-view",
    WARNING,
    Scope.LABELS,
    reason="An organ that everybody has, amid organs that are annotated, was probably forgotten.",
)
def empty_in_view(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """No vital organ is empty between neighbours that are whole."""
    for structure, around in _AMID.items():
        if structure not in scan.empty or not all(s in scan.regions for s in around):
            continue
        if any(scan.cut_aside(s) for s in around) or _beyond_view(scan, structure):
            continue
        title, names = STRUCTURES[structure].title, " and ".join(around)
        text = f"{title} is annotated and empty, though {names} are in view: forgotten?"
        yield Fault(text, structure, 0, scan.widest(around[0]))


# Nobody lives without them, and no common operation removes them; of the adrenal glands one may be
# removed, mostly with its kidney.
_AMID = {
    "adrenal_gland_left": ("kidney_left", "adrenal_gland_right", "spleen"),
    "adrenal_gland_right": ("kidney_right", "adrenal_gland_left", "liver"),
    "liver": ("kidney_right", "aorta"),
    "aorta": ("liver", "postcava"),
    "postcava": ("liver", "aorta"),
    "pancreas": ("pancreas_head", "pancreas_body"),
    "superior_mesenteric_artery": ("aorta", "celiac_artery", "pancreas"),
    "celiac_artery": ("aorta", "superior_mesenteric_artery", "pancreas"),
    "veins": ("liver", "spleen", "pancreas"),
}


def _beyond_view(scan: Scan, structure: str) -> bool:
    """Whether what lies next to a structure leaves the view toward it."""
    if structure == "celiac_artery":
        return scan.cut_above("superior_mesenteric_artery")
    if structure == "superior_mesenteric_artery":
        return scan.cut_below("celiac_artery")
    if structure == "liver":
        return scan.cut_above("kidney_right")
    if structure.startswith("adrenal"):  # it lies on the kidney, up to 40 mm higher
        _, top = scan.heights_mm(structure.replace("adrenal_gland", "kidney"))
        return top + 40 > scan.view[1] * scan.geometry.spacing[2]
    beside = {"pancreas": "pancreas_head", "veins": "pancreas"}.get(structure)
    return beside is not None and scan.cut(beside)


@rule(
    "lesion-small",
    WARNING,
    Scope.LABELS,
    reason="Released lesions of 4 to 49 voxels were slips of the pen.",
    standard="Pancreatic tumours: the entire mass, solid and cystic parts and necrosis.",
    voxels=50,
    large_ml=0.2,
)
def lesion_small(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """A tumour has the size of something that can be seen; each part of it counts for itself."""
    if LESION not in scan.regions:
        return
    parts = scan.parts(LESION)
    voxel_ml = scan.geometry.voxel_volume_mm3 / 1000
    small = [
        p for p in parts if p.voxels < limits["voxels"] and p.voxels * voxel_ml < limits["large_ml"]
    ]
    for part in small[:3]:
        which = "tumour" if len(parts) == 1 else f"one of {len(parts)} parts of the tumour"
        text = f"{which} has {part.voxels} voxels; fewer than {limits['voxels']:g} is often a slip"
        yield scan.fault(text, LESION, part.voxels, at=scan.inside(LESION, part))


@rule(
    "overlap",
    WARNING,
    Scope.LABELS,
    reason="A voxel is of one organ: where two masks share it, one of them is wrong.",
    standard="Each organ excludes its neighbours: liver without gall bladder, spleen without "
    "stomach and kidney, pancreas without vessels and duodenum, duodenum without pancreas; the "
    "pancreas is divided into head, body and tail.",
    share=0.01,
    voxels=10,
    grave_share=0.25,
    parts_voxels=0,
)
def overlap(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Two structures that are not part of one another share no more than a border.

    Head, body and tail are one gland divided: they share nothing, and in released labels do not.
    """
    for (a, b), shared in sorted(scan.shared.items()):
        if _may_share(a, b) or _told_of_whole(scan, a, b):
            continue
        smaller = min((a, b), key=lambda s: scan.regions[s].voxels)
        share = shared / scan.regions[smaller].voxels
        divided = a in PANCREAS_PARTS and b in PANCREAS_PARTS and shared > limits["parts_voxels"]
        if not divided and (shared <= limits["voxels"] or share <= limits["share"]):
            continue
        # Of what the view leaves of a structure, any share may be.
        large = share > limits["grave_share"] and not scan.cut(smaller)
        grave = twin(a) == b or large
        voxels = f"{shared} voxels" if shared > 1 else "1 voxel"
        text = f"{a} and {b} share {voxels} ({share:.1%} of the smaller)"
        at = scan.overlap_at(a, b)
        yield scan.fault(text, a, shared, at=at, severity=ERROR if grave else None)


@rule(
    "overlap-far",
    WARNING,
    Scope.LABELS,
    reason="These organs never touch: one mask has a piece in the wrong place.",
    voxels=10,
)
def overlap_far(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Organs that lie apart share nothing at all."""
    for a, b in _APART:
        shared = scan.overlap(a, b)
        if shared > limits["voxels"]:
            text = f"{a} and {b}, which never touch, share {shared} voxels"
            yield scan.fault(text, a, shared, at=scan.overlap_at(a, b))


_APART = (
    ("kidney_left", "liver"),
    ("aorta", "liver"),
    ("kidney_right", "spleen"),
    ("gall_bladder", "spleen"),
    ("kidney_left", "kidney_right"),
    ("adrenal_gland_left", "adrenal_gland_right"),
    ("femur_left", "femur_right"),
    ("bladder", "liver"),
    ("prostate", "spleen"),
)


@rule(
    "identical",
    ERROR,
    Scope.LABELS,
    reason="One mask was saved under two names.",
    dsc=0.98,
)
def identical(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """No two structures have one and the same mask."""
    for (a, b), shared in scan.shared.items():
        if {a, b} == {PANCREAS, LESION}:  # a tumour may have taken the whole gland
            continue
        dsc = 2 * shared / (scan.regions[a].voxels + scan.regions[b].voxels)
        part_of_whole = PANCREAS in (a, b) and {a, b} & {*PANCREAS_PARTS}
        if dsc > limits["dsc"] and not (part_of_whole and _one_part(scan)):
            yield scan.fault(f"{a} and {b} are the same mask (DSC {dsc:.3f})", a, dsc)


def _one_part(scan: Scan) -> bool:
    """Whether the gland was not divided, or only one part is left of it or in view."""
    return sum(p in scan.regions for p in PANCREAS_PARTS) == 1 or scan.cut(PANCREAS)


def twin(structure: str) -> str:
    """The structure of the other side, or ""."""
    if structure.endswith("_left"):
        return structure.removesuffix("_left") + "_right"
    if structure.endswith("_right"):
        return structure.removesuffix("_right") + "_left"
    return ""


def _told_of_whole(scan: Scan, a: str, b: str) -> bool:
    """Whether a pair of a part repeats what the pair of the whole pancreas says."""
    parts = STRUCTURES[PANCREAS].members
    if a in parts and b in parts:
        return False
    other = b if a in parts else a if b in parts else ""
    return bool(other) and other != PANCREAS and scan.overlap(other, PANCREAS) > 0


def _may_share(a: str, b: str) -> bool:
    """Whether one may lie in the other: the pancreas with its ducts; vessels in the liver."""
    if {a, b} in _SHARING:
        return True
    if b in STRUCTURES[a].members or a in STRUCTURES[b].members:
        return True
    family = {*STRUCTURES[PANCREAS].members, PANCREAS}
    inner = {"pancreatic_duct", "common_bile_duct", LESION}
    return a in family | inner and b in family | inner and bool({a, b} & inner)


# The standard counts vessels and ducts inside the liver to the liver.
_SHARING = ({"liver", "veins"}, {"liver", "common_bile_duct"})


@rule(
    "view",
    INFO,
    Scope.LABELS,
    reason="What is in view decides which rules can judge.",
)
def what_is_in_view(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """The scan shows the abdomen, with the pancreas's neighbours."""
    there = set(scan.regions)
    if not there or there & _ABDOMEN:
        return
    if there & _ABOVE:
        yield Fault("the labels show the chest alone: nothing of the abdomen is annotated")
    elif there & _BELOW:
        yield Fault("the labels show the pelvis alone: nothing of the abdomen is annotated")


@rule(
    "all-empty",
    WARNING,
    Scope.LABELS,
    reason="A case whose every mask is empty teaches that nobody has organs.",
)
def all_empty(scan: Scan, limits: Limits) -> Iterator[Fault]:
    """Some mask has voxels."""
    organs = scan.empty - {LESION}
    if organs and not scan.regions:
        yield Fault(f"all {len(organs)} masks are empty: not annotated after all?", value=0)
