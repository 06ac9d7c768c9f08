"""A small CT series as DICOM with all that a segmentation of it copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from pantskit.core.geometry import Geometry

SPACING = (2.0, 3.0, 4.0)  # between columns, between rows, between slices
ORIGIN = (-30.0, -25.0, 100.0)


@dataclass
class Series:
    """Slices to be written.

    Attributes:
        hu: (k, row, column) int16.
    """

    hu: NDArray[np.int16]

    @property
    def geometry(self) -> Geometry:
        """Of (column, row, slice): rows run to the left, columns to the back, slices up."""
        slices, rows, columns = self.hu.shape
        affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
        affine[:3, 3] = (-ORIGIN[0], -ORIGIN[1], ORIGIN[2])
        return Geometry((columns, rows, slices), affine)

    def write(self, folder: Path) -> Path:
        """Write the slices, the last one first by name."""
        folder.mkdir(parents=True, exist_ok=True)
        series, study, frame = generate_uid(), generate_uid(), generate_uid()
        for k, pixels in enumerate(self.hu):
            made = _slice(pixels, k)
            made.SeriesInstanceUID, made.StudyInstanceUID = series, study
            made.FrameOfReferenceUID = frame
            made.save_as(folder / f"{len(self.hu) - k:03d}.dcm", enforce_file_format=True)
        return folder


def series(hu: NDArray[np.int16]) -> Series:
    """A series of (k, row, column) HU."""
    return Series(hu.astype(np.int16))


def _slice(pixels: NDArray[np.int16], k: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid()
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.PatientName, made.PatientID = "Made^Up", "MADE-1"
    made.PatientBirthDate, made.PatientSex = "19600101", "F"
    made.StudyDate, made.StudyTime, made.StudyID = "20200102", "101500", "1"
    made.AccessionNumber, made.ReferringPhysicianName = "", ""
    made.Modality, made.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.SeriesNumber, made.InstanceNumber = 3, k + 1
    made.ImagePositionPatient = [ORIGIN[0], ORIGIN[1], ORIGIN[2] + k * SPACING[2]]
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
    made.RescaleSlope, made.RescaleIntercept = 1, -1024
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.PixelData = (pixels.astype(np.int32) + 1024).astype("<u2").tobytes()
    made["PixelData"].VR = "OW"
    return made
