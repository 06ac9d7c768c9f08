"""Labels of a source brought onto the grid of their CT, or refused with what is likely wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.errors import GeometryError, Quarantined
from pantskit.core.geometry import Geometry, require_same_grid
from pantskit.core.volume import Volume
from pantskit.ingest.sources.content import Fit, compare_flips, flipped
from pantskit.ingest.sources.reading import Labels

# A header rounded to two digits moves the far corner of a scan by up to this.
_ROUNDING_MM, _ROUNDING_VOXELS = 1.0, 0.5

_AXES = {"x": "left to right", "y": "front to back", "z": "head to foot"}


@dataclass(frozen=True)
class Placed:
    """Labels on the grid of their CT.

    Attributes:
        coded: the masks.
        flip: axes that had to be mirrored; "" for none.
        off_mm: distance of the grids, which was taken for rounding.
        fit: how organs and HU agree; None where nothing tells.
        notes: what was done, in words.
        sides: mm by which organs lie on the side they should, and what else tells it.
    """

    coded: CodedMasks
    flip: str = ""
    off_mm: float = 0.0
    fit: Fit | None = None
    notes: list[str] = field(default_factory=list)
    sides: dict[str, float] = field(default_factory=dict)


def place(labels: Labels, scan: Volume, *, flips: Sequence[str] = ()) -> Placed:
    """Bring labels onto the CT's grid.

    Args:
        labels: on their own grid.
        scan: HU in the standard orientation.
        flips: axes by which labels of this dataset may be mirrored; the content tells which.

    Raises:
        GeometryError: If the grids differ by more than rounding; a likely flip is named.
        Quarantined: If the label is mirrored against the CT, or fits it in no way.
    """
    own = Volume(labels.coded.codes, labels.geometry).reoriented()
    coded = labels.coded.mapped(lambda _: own.array)
    grid, ct = own.geometry, scan.geometry
    if grid.shape != ct.shape:
        require_same_grid(grid, ct, what="label and CT", mend="Is it another scan's label?")
    off = grid.distance_mm(ct)
    near = off <= min(_ROUNDING_MM, _ROUNDING_VOXELS * min(ct.spacing))
    fits = compare_flips(scan, coded)
    best = _best(fits, near=near)
    if near and best is not None and best.flip == "":
        if not best.at_all:
            raise Quarantined(
                f"label and CT do not belong together: {best.inside:.0%} of the labelled organ "
                "voxels have the HU of their organ, mirrored or not. Is it another scan's label?"
            )
        return Placed(coded, "", 0.0 if grid.same_grid(ct) else off, best, _rounded(grid, ct))
    if near and best is None:
        return Placed(coded, "", 0.0 if grid.same_grid(ct) else off, None, _rounded(grid, ct))
    return _mirrored(coded, grid, ct, best, flips, near=near)


def _best(fits: list[Fit], *, near: bool) -> Fit | None:
    """The mirror image that fits best; the label as it is unless another one is clearly better.

    Where the grids differ there is no reason to believe that the voxels lie as they do.
    """
    if not fits:
        return None
    best = max(fits, key=lambda f: f.score)
    return fits[0] if near and not best.beats(fits[0]) else best


def _mirrored(
    coded: CodedMasks,
    grid: Geometry,
    ct: Geometry,
    best: Fit | None,
    flips: Sequence[str],
    *,
    near: bool,
) -> Placed:
    """Mirror a label where its dataset is known for that, or say what seems to be wrong."""
    usable = best is not None and best.at_all
    if best is not None and usable and best.flip in ("", *flips) and flips:
        how = f"mirrored along {best.flip}" if best.flip else "as it is stored"
        why = "" if near else "; its header gives another grid, which was not believed"
        note = f"label lies {how} on its CT, by the HU of its organs{why}"
        return Placed(flipped(coded, best.flip), best.flip, grid.distance_mm(ct), best, [note])
    if near:
        assert best is not None
        axes = " and ".join(f"{a} ({_AXES[a]})" for a in best.flip)
        raise Quarantined(
            f"the label is mirrored along {axes} against its CT: so {best.inside:.0%} of the "
            "labelled organ voxels have the HU of their organ, and fewer as it is. Flip the label "
            "along that axis, or correct its affine"
        )
    likely = ""
    if best is not None and usable:
        axes = f"mirrored along {best.flip}" if best.flip else "not mirrored, with the CT's affine"
        likely = f" Voxel for voxel it fits the CT {axes}: its affine is likely wrong."
    require_same_grid(grid, ct, what="label and CT", mend=f"Correct one affine.{likely}")
    raise GeometryError("label and CT are on different grids")  # not reached: they differ


def _rounded(grid: Geometry, ct: Geometry) -> list[str]:
    if grid.same_grid(ct):
        return []
    return [f"the label's grid is {grid.distance_mm(ct):.3f} mm off the CT's, taken for rounding"]
