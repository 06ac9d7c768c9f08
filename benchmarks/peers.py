"""The other ways from DICOM to a standard case: dcm2niix or dicom2nifti, then nibabel.

python benchmarks/peers.py FOLDER OUT      what a script with nibabel does, to a folder
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import dcm2niix
import nibabel as nib
import numpy as np
from nibabel.openers import Opener
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from pantskit.core.labels import PAINT_ORDER, PANTS

Run = Callable[[Path], None]

DCM2NIIX: str = dcm2niix.bin  # the program itself; the command `dcm2niix` starts Python first

CT, COMBINED = "ct.nii.gz", "combined_labels.nii.gz"


def with_dcm2niix(series: Path, *options: str) -> Run:
    def run(out: Path) -> None:
        command = [DCM2NIIX, *options, "-b", "n", "-f", "ct", "-o", str(out), str(series)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return run


def with_dicom2nifti(series: Path) -> Run:
    import dicom2nifti

    return lambda out: dicom2nifti.dicom_series_to_nifti(series, out / CT, reorient_nifti=False)


def then_nibabel(
    convert: Run, labels: Path | None = None, *, floats: bool = False, level: int = 1
) -> Run:
    """A conversion, and what a script with nibabel does with it: clip, reorient, save.

    Args:
        convert: writes one image into a folder.
        labels: a label map or a folder of masks, written as masks and a combined map.
        floats: read by `get_fdata`, as nibabel's tutorials do, and not as integers.
        level: of gzip that the CT is saved with; nibabel's own is 1.
    """

    def run(out: Path) -> None:
        raw = out / "raw"
        raw.mkdir()
        convert(raw)
        with mock.patch.object(Opener, "default_compresslevel", level):
            standardize(next(raw.glob("*.nii*")), out / CT, floats=floats)
        shutil.rmtree(raw)
        if labels:
            write_labels(labels, out)

    return run


def standardize(path: Path, out: Path, *, floats: bool = False) -> None:
    image = nib.load(path)
    hu = image.get_fdata() if floats else np.asanyarray(image.dataobj)
    save(np.clip(hu, -1000, 1000).astype(np.int16), image.affine, out)


def save(data: NDArray[Any], affine: NDArray[Any], out: Path) -> None:
    axes = ornt_transform(io_orientation(affine), axcodes2ornt(("L", "A", "I")))
    affine = affine @ inv_ornt_aff(axes, data.shape)
    nib.save(nib.Nifti1Image(apply_orientation(data, axes), affine), out)


def write_labels(source: Path, out: Path) -> None:
    """28 masks and their combined map, from a label map or from masks."""
    values = affine = combined = None
    if source.is_file():
        image = nib.load(source)
        values, affine = np.asanyarray(image.dataobj), image.affine
    for structure in PAINT_ORDER:
        if values is None:
            image = nib.load(source / f"{structure}.nii.gz")
            mask, affine = np.asanyarray(image.dataobj) > 0, image.affine
        else:
            ids = PANTS.evaluation_ids(structure)
            mask = values == ids[0] if len(ids) == 1 else np.isin(values, ids)
        combined = np.zeros(mask.shape, np.uint8) if combined is None else combined
        combined[mask] = PANTS.id_of(structure)
        save(mask.astype(np.uint8), affine, out / f"{structure}.nii.gz")
    save(combined, affine, out / COMBINED)


def require_equal(ours: Path, theirs: Path, names: Sequence[str]) -> None:
    """Equal voxels in equal places."""
    for name in names:
        mine, other = (nib.load(next(f.rglob(name))) for f in (ours, theirs))
        np.testing.assert_allclose(mine.affine, other.affine, atol=2e-3)
        np.testing.assert_array_equal(np.asanyarray(mine.dataobj), np.asanyarray(other.dataobj))


if __name__ == "__main__":
    for file in Path(sys.argv[1]).glob("*.nii*"):
        standardize(file, Path(sys.argv[2]) / f"{file.name.split('.nii')[0]}.nii.gz")
