"""One phantom in the layouts of public datasets, with the quirks of their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.phantom.case import PhantomCase

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Miniature:
    """A phantom as a source of files; all arrays are on its CT's acquired grid."""

    case: PhantomCase

    @property
    def ct(self) -> Volume:
        return self.case.ct

    @property
    def geometry(self) -> Geometry:
        return self.case.geometry

    def mask(self, *structures: str) -> Mask:
        """The union of structures, as the phantom knows it."""
        found = np.zeros(self.geometry.shape, np.bool_)
        for structure in structures:
            found |= self.case.mask(structure)
        return found

    def truth(self, structure: str) -> Mask:
        """The mask of one structure as a standard dataset has it: turned to LAI."""
        return Volume(self.case.mask(structure), self.geometry).reoriented().array

    def label_map(self, painted: Mapping[int, Mask]) -> NDArray[np.uint8]:
        """Values painted one after the other."""
        labels = np.zeros(self.geometry.shape, np.uint8)
        for value, mask in painted.items():
            labels[mask] = value
        return labels

    def part(self, structure: str, share: float = 0.3) -> Mask:
        """The lowest part of a structure along j: a lesion in it, say."""
        mask = self.mask(structure)
        rows = np.flatnonzero(mask.any(axis=(0, 2)))
        found = np.zeros_like(mask)
        stop = rows[0] + max(1, int(share * len(rows)))
        found[:, rows[0] : stop] = mask[:, rows[0] : stop]
        return found

    def nowhere(self) -> Mask:
        """A few voxels of air in a corner: something without a place among the 28."""
        found = np.zeros(self.geometry.shape, np.bool_)
        found[0:2, 0:2, 0:2] = True
        return found

    def write_ct(self, path: Path, **how: Any) -> Path:
        return write_nifti(path, self.ct.array, self.geometry, **how)

    def write_labels(self, path: Path, painted: Mapping[int, Mask], **how: Any) -> Path:
        return write_nifti(path, self.label_map(painted), self.geometry, **how)


def write_nifti(
    path: Path,
    array: NDArray[Any],
    geometry: Geometry,
    *,
    orientation: str = "LPS",
    dtype: Any = np.int16,
    slope: float | None = None,
    affine: NDArray[np.float64] | None = None,
    flip: Sequence[int] = (),
) -> Path:
    """Write an image turned to an orientation.

    Args:
        path: .nii or .nii.gz.
        array: on the grid; bool is 0 and 1.
        geometry: the grid.
        orientation: nibabel's axis codes in the file.
        dtype: in the file.
        slope: scl_slope; the stored values are divided by it.
        affine: written in place of the true one.
        flip: axes of the turned array that are mirrored without telling the affine.
    """
    turned = Volume(array.astype(np.int16), geometry).reoriented(orientation)
    values = np.flip(turned.array, tuple(flip)) if flip else turned.array
    image = nib.Nifti1Image(
        np.ascontiguousarray(values if slope else values.astype(dtype)),
        turned.geometry.affine if affine is None else affine,
    )
    image.header.set_data_dtype(dtype)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    if slope:
        stored = np.rint(values / slope).astype(dtype)
        image = nib.Nifti1Image(np.ascontiguousarray(stored), image.affine, image.header)
        image.header.set_slope_inter(slope, 0)
    nib.save(image, path)
    return path


def write_dicom(folder: Path, ct: Volume, *, own_series: bool = False, **attributes: Any) -> Path:
    """Write a CT as single slices, numbered from the feet up.

    Args:
        folder: of the slices.
        ct: HU; its third axis goes through the slices.
        own_series: give every slice a series UID of its own, as CHAOS does.
        attributes: of the headers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.geometry.affine
    spacing = ct.geometry.spacing
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    order = range(ct.geometry.shape[2])
    ascending = order if lps[2, 2] > 0 else reversed(order)
    for number, k in enumerate(ascending, 1):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid()
        meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.Modality, made.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        made.PatientID, made.PatientName = "public", "public"
        made.StudyInstanceUID, made.FrameOfReferenceUID = study, frame
        made.SeriesInstanceUID = generate_uid() if own_series else series
        made.InstanceNumber = number
        made.ImagePositionPatient = [float(v) for v in np.round(lps[:3] @ [0, 0, k, 1], 6)]
        directions = [lps[:3, axis] / spacing[axis] for axis in (0, 1)]
        made.ImageOrientationPatient = [float(v) for d in directions for v in np.round(d, 8)]
        made.PixelSpacing = [round(spacing[1], 6), round(spacing[0], 6)]
        made.SliceThickness = round(spacing[2], 6)
        made.RescaleIntercept, made.RescaleSlope, made.RescaleType = -1024, 1, "HU"
        pixels = (ct.array[:, :, k].T + np.int16(1024)).astype(np.uint16)
        made.Rows, made.Columns = pixels.shape
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
        made.PixelRepresentation = 0
        made.PixelData = np.ascontiguousarray(pixels).tobytes()
        for keyword, value in attributes.items():
            setattr(made, keyword, value)
        made.save_as(folder / f"1-{number:03d}.dcm", enforce_file_format=True)
    return folder
