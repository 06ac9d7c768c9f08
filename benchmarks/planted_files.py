"""Faults of geometry and of files: what a conversion, a copy or a tool does to them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from planted_case import EVERYTHING, DoesNotApplyError, Planting
from planted_kind import kind
from scipy import ndimage

from pantskit.core.labels import PANTS, STRUCTURES

ONE_GRID = "Masks lie voxel for voxel on their CT."
BINARY = "A mask says inside or outside of one structure, nothing else."
IDS = "The combined map is numbered by the release's class map and is a view of the masks."
WHOLE = "Every file of a case can be read to its end."


def rewrite(
    path: Path,
    array: NDArray[Any] | None = None,
    affine: NDArray[np.float64] | None = None,
    edit: Callable[[Any], None] = lambda image: None,
) -> None:
    """Write a file anew with other voxels, another place (in both forms) or an edited header."""
    image = nib.load(path)
    values = np.asanyarray(image.dataobj) if array is None else array
    new = nib.Nifti1Image(values, image.affine, image.header)
    new.header.set_data_dtype(values.dtype)
    if affine is not None:
        new.set_sform(affine, 1)
        new.set_qform(affine, 1)
    edit(new)
    nib.save(new, path)


def voxels_of(path: Path) -> NDArray[Any]:
    """The stored values of a file."""
    return np.asanyarray(nib.load(path).dataobj).copy()


def shifted(path: Path, mm: float) -> None:
    affine = nib.load(path).affine.copy()
    affine[0, 3] += mm
    rewrite(path, affine=affine)


@kind(
    "mask-origin-shifted",
    ONE_GRID,
    severity="error",
    structures=("liver",),
    levels=(40, 10, 2),
    on_disk=True,
)
def mask_origin_shifted(case: Planting, mm: float) -> None:
    shifted(case.mask_path("liver"), mm)


@kind(
    "labels-origin-shifted",
    ONE_GRID,
    severity="error",
    structures=EVERYTHING,
    levels=(40, 10, 2),
    on_disk=True,
)
def labels_origin_shifted(case: Planting, mm: float) -> None:
    for path in case.label_paths():
        shifted(path, mm)


def flipped(path: Path) -> None:
    rewrite(path, affine=np.diag([-1.0, 1, 1, 1]) @ nib.load(path).affine)


@kind(
    "labels-affine-flipped",
    ONE_GRID,
    severity="error",
    structures=EVERYTHING,
    levels=("all",),
    on_disk=True,
)
def labels_affine_flipped(case: Planting, level: str) -> None:
    for path in case.label_paths():
        flipped(path)


@kind(
    "mask-affine-flipped",
    ONE_GRID,
    severity="error",
    structures=("spleen",),
    levels=("one",),
    on_disk=True,
)
def mask_affine_flipped(case: Planting, level: str) -> None:
    flipped(case.mask_path("spleen"))


@kind(
    "mask-spacing-wrong",
    ONE_GRID,
    severity="error",
    structures=("spleen",),
    levels=(1.5, 1.1, 1.01),
    on_disk=True,
)
def mask_spacing_wrong(case: Planting, factor: float) -> None:
    path = case.mask_path("spleen")
    affine = nib.load(path).affine.copy()
    affine[:3, 2] *= factor
    rewrite(path, affine=affine)


@kind(
    "spacing-lost",
    "Spacing is in millimetres, as the scanner measured it.",
    severity="error",
    structures=EVERYTHING,
    levels=("cm", "1 mm each way", "slices 1.5 x"),
    on_disk=True,
)
def spacing_lost(case: Planting, how: str) -> None:
    """In all files alike, and in the metadata, which is made from them."""
    size = np.array(case.spacing)
    other = {"cm": size / 10, "1 mm each way": np.ones(3), "slices 1.5 x": size * (1, 1, 1.5)}[how]
    respaced(case, other)


def respaced(case: Planting, size: NDArray[np.float64]) -> None:
    """Another spacing in all files alike, and in the row."""
    for path in (case.ct_path, *case.label_paths()):
        affine = nib.load(path).affine.copy()
        affine[:3, :3] *= size / np.array(case.spacing)
        rewrite(path, affine=affine)
    case.fields["spacing"] = str(tuple(round(float(s), 4) for s in size))
    case.fields["slice_thickness_mm"] = round(float(size[2]), 4)
    case.write_rows()


@kind(
    "forms-disagree",
    "A file has one place in space.",
    severity="error",
    structures=EVERYTHING,
    levels=(100, 5, 0.5),
    words=("ct.nii.gz",),
    on_disk=True,
)
def forms_disagree(case: Planting, mm: float) -> None:
    affine = nib.load(case.ct_path).affine.copy()
    affine[1, 3] += mm
    rewrite(case.ct_path, edit=lambda image: image.set_qform(affine, 1))


@kind(
    "no-place",
    "A file has one place in space.",
    severity="error",
    structures=("spleen",),
    levels=("CT", "mask"),
    words=("ct.nii.gz", "sform"),
    on_disk=True,
)
def no_place(case: Planting, which: str) -> None:
    path = case.ct_path if which == "CT" else case.mask_path("spleen")
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[252:256] = bytes(4)  # the codes of both forms; nibabel would set one again
    path.write_bytes(gzip.compress(bytes(data), 1))


@kind(
    "unit-micron",
    "Spacing is in millimetres, and the header says so.",
    structures=("spleen",),
    levels=("CT", "mask"),
    words=("ct.nii.gz", "micron"),
    on_disk=True,
)
def unit_micron(case: Planting, which: str) -> None:
    path = case.ct_path if which == "CT" else case.mask_path("spleen")
    rewrite(path, edit=lambda image: image.header.set_xyzt_units("micron"))


def scaled(path: Path, slope: float) -> None:
    rewrite(
        path,
        voxels_of(path).astype(np.int16),
        edit=lambda image: image.header.set_slope_inter(slope, 0),
    )


@kind("mask-slope", BINARY, structures=("pancreas",), levels=(2.0, 1.0002), on_disk=True)
def mask_slope(case: Planting, slope: float) -> None:
    scaled(case.mask_path("pancreas"), slope)


@kind("map-slope", IDS, structures=(), levels=(1.5, 1.0002), words=("combined",), on_disk=True)
def map_slope(case: Planting, slope: float) -> None:
    scaled(case.map_path, slope)


@kind(
    "mask-of-fractions",
    BINARY,
    structures=("liver",),
    levels=("smoothed", "float32 of 0 and 1"),
    on_disk=True,
)
def mask_of_fractions(case: Planting, how: str) -> None:
    values = voxels_of(case.mask_path("liver")).astype(np.float32)
    rewrite(
        case.mask_path("liver"),
        ndimage.gaussian_filter(values, 1.0) if how == "smoothed" else values,
    )


@kind(
    "mask-not-binary",
    BINARY,
    structures=("spleen",),
    levels=("255", "2 in half of it", "7 in one voxel"),
    on_disk=True,
)
def mask_not_binary(case: Planting, how: str) -> None:
    path = case.mask_path("spleen")
    values = voxels_of(path)
    inside = np.argwhere(values)
    count = {"255": len(inside), "2 in half of it": len(inside) // 2, "7 in one voxel": 1}[how]
    values[tuple(inside[:count].T)] = int(how.split()[0])
    rewrite(path, values)


@kind(
    "mask-not-finite",
    BINARY,
    severity="error",
    structures=("spleen",),
    levels=(1000, 1),
    on_disk=True,
)
def mask_not_finite(case: Planting, count: int) -> None:
    values = voxels_of(case.mask_path("spleen")).astype(np.float32)
    values.reshape(-1)[:count] = np.nan
    rewrite(case.mask_path("spleen"), values)


@kind(
    "mask-of-another-shape",
    ONE_GRID,
    severity="error",
    structures=("stomach",),
    levels=("half", "a slice less"),
    on_disk=True,
)
def mask_of_another_shape(case: Planting, how: str) -> None:
    values = voxels_of(case.mask_path("stomach"))
    keep = values.shape[2] // 2 if how == "half" else values.shape[2] - 1
    rewrite(case.mask_path("stomach"), values[:, :, :keep])


def cut(path: Path, keep: float) -> None:
    """Cut a file: to a fraction, or by so many bytes where negative."""
    data = path.read_bytes()
    path.write_bytes(data[: int(keep)] if keep < 0 else data[: int(keep * len(data))])


@kind(
    "ct-cut-short",
    WHOLE,
    severity="error",
    structures=(),
    levels=(0.5, 0.99, -4),
    words=("ct.nii.gz",),
    on_disk=True,
)
def ct_cut_short(case: Planting, keep: float) -> None:
    cut(case.ct_path, keep)


@kind(
    "mask-cut-short",
    WHOLE,
    severity="error",
    structures=("pancreas",),
    levels=(0.5, 0.99, -4),
    on_disk=True,
)
def mask_cut_short(case: Planting, keep: float) -> None:
    cut(case.mask_path("pancreas"), keep)


@kind(
    "mask-is-no-image",
    WHOLE,
    severity="error",
    structures=("pancreas",),
    levels=("web page", "empty file", "zeros"),
    on_disk=True,
)
def mask_is_no_image(case: Planting, how: str) -> None:
    data = {"web page": b"<html>404</html>", "empty file": b"", "zeros": bytes(4096)}[how]
    case.mask_path("pancreas").write_bytes(data)


@kind(
    "ct-missing",
    WHOLE,
    structures=(),
    levels=("no file",),
    words=("ct.nii.gz", "no ct", "ct is missing", "ct missing"),
    on_disk=True,
)
def ct_missing(case: Planting, level: str) -> None:
    case.ct_path.unlink()


@kind(
    "two-files-of-one-structure",
    "Each structure has one mask.",
    severity="error",
    structures=("spleen",),
    levels=("under two other names", "beside its own name"),
    on_disk=True,
)
def two_files_of_one_structure(case: Planting, how: str) -> None:
    """One of them with the liver's voxels."""
    case.mask_path("milz").write_bytes(case.mask_path("liver").read_bytes())
    if how == "under two other names":
        case.mask_path("spleen").rename(case.mask_path("lien"))


@kind(
    "map-unknown-id",
    IDS,
    structures=(),
    levels=(1000, 20, 1),
    words=("combined", "99"),
    on_disk=True,
)
def map_unknown_id(case: Planting, count: int) -> None:
    values = voxels_of(case.map_path)
    values[tuple(np.argwhere(values == 0)[:count].T)] = 99
    rewrite(case.map_path, values)


@kind(
    "map-numbered-otherwise",
    IDS,
    severity="error",
    structures=(),
    levels=("declares nothing", "declares the release's"),
    words=("combined",),
    on_disk=True,
)
def map_numbered_otherwise(case: Planting, how: str) -> None:
    """Alphabetically: 22 is the lesion, 28 the veins."""
    table = np.zeros(256, np.uint8)
    for number, structure in enumerate(sorted(STRUCTURES), 1):
        table[PANTS.id_of(structure)] = number

    def undeclared(image: Any) -> None:
        if how == "declares nothing":
            image.header.set_intent("none")

    rewrite(case.map_path, table[voxels_of(case.map_path)], edit=undeclared)


@kind(
    "map-lacks-voxels",
    IDS,
    structures=("spleen",),
    levels=(1.0, 0.1, 0.0),
    words=("combined",),
    on_disk=True,
)
def map_lacks_voxels(case: Planting, fraction: float) -> None:
    """A fraction of the spleen's voxels is background in the map; 0: one of them."""
    values = voxels_of(case.map_path)
    inside = np.argwhere(values == PANTS.id_of("spleen"))
    if not len(inside):
        raise DoesNotApplyError("no spleen")
    values[tuple(inside[: max(1, int(fraction * len(inside)))].T)] = 0
    rewrite(case.map_path, values)


@kind(
    "mask-missing",
    "Every one of the 28 structures is annotated.",
    structures=("celiac_artery",),
    levels=("no file",),
)
def mask_missing(case: Planting, level: str) -> None:
    case.drop("celiac_artery")
