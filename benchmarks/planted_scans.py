"""Further faults of whole scans, of their table and of the dataset around them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from planted_arrays import DOWN, LEFT
from planted_case import EVERYTHING, DoesNotApplyError, Planting, copy_case
from planted_content import HOUNSFIELD, ONCE, TABLE
from planted_files import IDS, respaced, shifted
from planted_kind import kind

from pantskit.core.writing import write_volume

MILLIMETRES = "Spacing is in millimetres, as the scanner measured it."
IN_VIEW = "What a scan does not show is not judged; that it shows a part is said."
SECOND = "Phantom_90000000"


# The scan


@kind("hu-beyond-the-range", HOUNSFIELD, structures=EVERYTHING, levels=(-3024, -2000, -1100))
def hu_beyond_the_range(case: Planting, hu: int) -> None:
    """What lies outside the round field of a scanner was filled with this."""
    i, j = np.ogrid[: case.ct.shape[0], : case.ct.shape[1]]
    away = [(2 * x / (n - 1) - 1) ** 2 for x, n in zip((i, j), case.ct.shape, strict=False)]
    case.ct[away[0] + away[1] > 1] = hu


@kind("metal-not-clipped", HOUNSFIELD, structures=EVERYTHING, levels=(25, 12, 1))
def metal_not_clipped(case: Planting, radius_mm: float) -> None:
    """A joint of metal, 3071 HU, in the right hip."""
    femur = case.mask("femur_right")
    top = np.argwhere(femur)
    case.ct[case.ball(top[top[:, DOWN].argmin()], radius_mm)] = 3071


@kind(
    "files-turned",
    "A dataset has one orientation.",
    severity="info",
    structures=EVERYTHING,
    levels=("ASL", "RAS"),
    on_disk=True,
)
def files_turned(case: Planting, codes: str) -> None:
    """CT and labels are stored in another order of axes; all lies where it did."""
    for path in (case.ct_path, *case.label_paths()):
        image = nib.load(path)
        turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
        turned = image.as_reoriented(turn)
        array = np.asanyarray(turned.dataobj).copy()
        nib.save(nib.Nifti1Image(array, turned.affine, turned.header), path)
    image = nib.load(case.ct_path)
    case.fields["shape"] = str(tuple(int(n) for n in image.shape))
    case.fields["spacing"] = str(tuple(round(float(s), 4) for s in image.header.get_zooms()))
    case.write_rows()


@kind("scan-of-few-slices", IN_VIEW, structures=EVERYTHING, levels=(1, 3, 6))
def scan_of_few_slices(case: Planting, count: int) -> None:
    """So many slices through the pancreas."""
    start = int(np.median(np.flatnonzero(case.mask("pancreas").any(axis=(0, 1)))))
    case.keep_slices(start, start + count)
    _lesion_in_window(case)


@kind(
    "scan-of-another-region",
    IN_VIEW,
    severity="info",
    structures=EVERYTHING,
    levels=("chest", "pelvis", "below the pancreas"),
)
def scan_of_another_region(case: Planting, region: str) -> None:
    slices = np.flatnonzero(case.mask("pancreas").any(axis=(0, 1)))
    kidneys = np.flatnonzero(case.mask("kidney_right").any(axis=(0, 1)))
    last = case.ct.shape[DOWN]
    start, stop = {
        "chest": (0, int(slices[0]) - 2),
        "pelvis": (int(kidneys[-1]) + 2, last),
        "below the pancreas": (int(slices[-1]) + 2, last),
    }[region]
    if stop - start < 3:
        raise DoesNotApplyError(f"the scan does not reach to the {region}")
    case.keep_slices(start, stop)
    _lesion_in_window(case)


def _lesion_in_window(case: Planting) -> None:
    """The table says whether what is left of the scan has a tumour."""
    case.fields["lesions"] = int(case.now("pancreatic_lesion")[:, :, case.slices].any())


@kind(
    "spacing-impossible",
    MILLIMETRES,
    structures=EVERYTHING,
    levels=("slices of 40 mm", "pixels of 0.1 mm", "slices of 0.1 mm"),
    on_disk=True,
)
def spacing_impossible(case: Planting, how: str) -> None:
    """In all files alike, and in the metadata, which is made from them."""
    size = np.array(case.spacing)
    mm = float(how.split()[2])
    size[[DOWN] if how.startswith("slices") else [0, 1]] = mm
    respaced(case, size)


# Labels


@kind(
    "labels-gone",
    "A case of a labelled dataset has labels.",
    severity="info",
    structures=EVERYTHING,
    levels=("no folder", "an empty folder"),
    on_disk=True,
)
def labels_gone(case: Planting, how: str) -> None:
    shutil.rmtree(case.map_path.parent)
    if how == "an empty folder":
        case.map_path.parent.mkdir()


@kind(
    "map-origin-shifted",
    IDS,
    severity="error",
    structures=(),
    levels=(860, 40, 2),
    words=("combined",),
    on_disk=True,
)
def map_origin_shifted(case: Planting, mm: float) -> None:
    shifted(case.map_path, mm)


# The table


@kind(
    "word-unknown",
    TABLE,
    structures=(),
    levels=("phase: nephro-bolus", "sex: X9", "sex: M with a space"),
    words=("phase", "sex"),
    below={"sex: M with a space": "a space says nothing else; ours reads it, as any reader does"},
)
def word_unknown(case: Planting, how: str) -> None:
    column, _, word = how.partition(": ")
    if word.startswith("M with"):
        if case.fields["sex"] != "M":
            raise DoesNotApplyError("a woman's scan")
        word = "M "
    case.fields[column] = word


@kind(
    "row-without-case",
    TABLE,
    severity="info",
    structures=(),
    levels=("another case's", "the case under another name"),
    words=("row", "metadata"),
)
def row_without_case(case: Planting, how: str) -> None:
    row = case.other.row if how == "another case's" else case.fields | {"case_id": SECOND}
    if row["case_id"] == case.clean.case_id:
        raise DoesNotApplyError("the other case has the same name")
    case.more_rows.append(dict(row))


# The dataset around it


@kind(
    "scan-again-with-other-values",
    ONCE,
    structures=(),
    levels=("20 HU more", "noise of 15 HU", "two slices less"),
    words=("same", "duplicate", "copy", "twice", "identical"),
    on_disk=True,
)
def scan_again_with_other_values(case: Planting, how: str) -> None:
    """Under another name on the other side: the same labels, and a CT that was made anew."""
    split = "test" if case.clean.split == "train" else "train"
    row = case.fields | {"case_id": SECOND, "split": split, "patient_id": "P-other"}
    if how == "two slices less":
        again = Planting(case.clean, case.other, case.root.with_name(case.root.name + "-again"))
        again.keep_slices(0, case.ct.shape[DOWN] - 2)
        again.write()
        _under_other_name(again, case, split)
        shutil.rmtree(again.root)
        row["shape"] = again.fields["shape"]
    else:
        copy_case(case.clean, case.root, name=SECOND, split=split)
        noise = np.random.default_rng(5).normal(0, 15, case.ct.shape)
        ct = case.ct + (20 if how == "20 HU more" else np.rint(noise))
        path = case.dataset.image_path(SECOND, split)
        write_volume(path, case.clean.ct.with_array(np.clip(ct, -1000, 1000).astype(np.int16)))
    case.more_rows.append(row)
    case.write_rows()


def _under_other_name(again: Planting, case: Planting, split: str) -> None:
    for old, new in (
        (again.ct_path.parent, case.dataset.image_path(SECOND, split).parent),
        (again.map_path.parent, case.dataset.labels_path(SECOND, split)),
    ):
        new.parent.mkdir(parents=True, exist_ok=True)
        Path(old).rename(new)


@kind(
    "mask-forgotten-in-one-case",
    "Every case has the structures that the others have.",
    structures=("colon", "celiac_artery"),
    levels=("colon", "celiac_artery"),
    company=True,
)
def mask_forgotten_in_one_case(case: Planting, structure: str) -> None:
    """Eleven cases beside it have the mask; dataset.json says nothing."""
    case.drop(structure)
    case.company(11)
    case.info.pop("annotated", None)


LIVERS = "livers differ by as much"


@kind(
    "far-from-all-others",
    "What a dataset holds is alike.",
    severity="info",
    structures=("liver", "spleen"),
    levels=("liver 150 HU less", "spleen of a quarter", "liver 60 HU less"),
    below={"liver 60 HU less": LIVERS, "spleen of a quarter": "spleens of 50 ml are seen"},
    company=True,
)
def far_from_all_others(case: Planting, how: str) -> None:
    """Among 23 sound cases, one whose organ is unlike theirs."""
    case.company(23)
    structure = how.split()[0]
    mask = case.mask(structure)
    if structure == "liver":
        case.ct[mask] = case.ct[mask] - int(how.split()[1])
        return
    inner = case.depth(mask)
    order: Any = np.where(mask, -inner, 0)
    kept = np.zeros_like(mask)
    at = np.argwhere(mask)
    kept[tuple(at[np.argsort(order[mask], kind="stable")[: len(at) // 4]].T)] = True
    case.put("spleen", kept)


@kind(
    "columns-mirrored-in-one-mask",
    "Masks lie voxel for voxel on their CT.",
    severity="error",
    structures=("kidney_left", "kidney_right"),
    levels=("both kidneys", "the left one"),
)
def columns_mirrored_in_one_mask(case: Planting, how: str) -> None:
    """The voxels run the other way along a row, while the grid says what it said."""
    for structure in ("kidney_left", "kidney_right")[: 2 if how == "both kidneys" else 1]:
        case.put(structure, np.flip(case.mask(structure), LEFT))
