"""A small DICOM series whose every number is known, and a way to run the command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from pantskit.core.dataset import Dataset
from pantskit.core.volume import Volume, read_volume
from pantskit.ingest import IngestSettings, IngestSummary, ingest

ROWS, COLUMNS, SLICES = 6, 8, 5


@dataclass
class MadeSeries:
    """A CT series in the making: change it, then `write` it.

    `stored[k, row, column]` are the values in the files; HU = stored - 1024 at first.
    """

    stored: NDArray[Any] = field(
        default_factory=lambda: np.random.default_rng(7).integers(
            0, 2048, (SLICES, ROWS, COLUMNS), dtype=np.uint16
        )
    )
    row: tuple[float, float, float] = (1.0, 0.0, 0.0)
    column: tuple[float, float, float] = (0.0, 1.0, 0.0)
    origin: tuple[float, float, float] = (-100.0, -120.0, 50.0)
    pixel_spacing: tuple[float, float] = (0.75, 0.5)  # between rows, between columns
    step: float = 2.5
    attributes: dict[str, Any] = field(default_factory=dict)
    uid: str = field(default_factory=generate_uid)

    def __post_init__(self) -> None:
        normal = np.cross(self.row, self.column)
        count = len(self.stored)
        self.positions = np.array(self.origin) + np.outer(np.arange(count) * self.step, normal)
        self.slope = np.ones(count)
        self.intercept = np.full(count, -1024.0)

    def dataset(self, k: int) -> FileDataset:
        """The object of slice k."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        made.SOPClassUID = CTImageStorage
        made.SOPInstanceUID = generate_uid(entropy_srcs=[self.uid, str(k)])
        meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.StudyInstanceUID = generate_uid(entropy_srcs=[self.uid, "study"])
        made.SeriesInstanceUID = self.uid
        made.SeriesNumber, made.InstanceNumber = 3, k + 1
        made.Modality = "CT"
        made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        made.PatientName, made.PatientID = "Quellmann^Ludmilla", "QX778812"
        made.PatientBirthDate, made.StudyDate = "19500317", "20140902"
        made.ImagePositionPatient = [round(float(v), 9) for v in self.positions[k]]
        made.ImageOrientationPatient = [*self.row, *self.column]
        made.PixelSpacing = list(self.pixel_spacing)
        made.RescaleSlope, made.RescaleIntercept = float(self.slope[k]), float(self.intercept[k])
        made.Rows, made.Columns = self.stored.shape[1:]
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 8 * self.stored.dtype.itemsize
        made.HighBit = made.BitsStored - 1
        made.PixelRepresentation = int(self.stored.dtype.kind == "i")
        made.PixelData = np.ascontiguousarray(self.stored[k]).tobytes()
        made["PixelData"].VR = "OW" if self.stored.dtype.itemsize == 2 else "OB"
        for keyword, value in self.attributes.items():
            setattr(made, keyword, value)
        return made

    def write(self, folder: Path, *, skip: tuple[int, ...] = ()) -> Path:
        """Write all slices but those to skip; file names are in no order."""
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(len(self.stored)):
            if k not in skip:
                name = f"{(k * 7919) % 1000:03d}"
                self.dataset(k).save_as(folder / name, enforce_file_format=True)
        return folder

    @property
    def hu(self) -> NDArray[np.int16]:
        """(k, row, column) the HU that must come out: rounded once, then clipped."""
        scaled = self.stored * self.slope[:, None, None] + self.intercept[:, None, None]
        return np.clip(np.rint(scaled), -1000, 1000).astype(np.int16)


@pytest.fixture
def series() -> Callable[..., MadeSeries]:
    return MadeSeries


@dataclass
class Run:
    """What one run of ingest left behind."""

    summary: IngestSummary
    out: Path

    @property
    def statuses(self) -> list[str]:
        return sorted(r.status for r in self.summary.run.records)

    @property
    def message(self) -> str:
        (record,) = self.summary.run.not_done
        return record.message

    @property
    def data(self) -> dict[str, Any]:
        (record,) = [r for r in self.summary.run.records if r.status == "done"]
        return record.data

    @property
    def ct(self) -> Volume:
        (case,) = Dataset.open(self.out).cases()
        return read_volume(case.image_path)

    @property
    def files(self) -> list[str]:
        """Files of cases: images and labels."""
        found = (p.relative_to(self.out) for p in self.out.rglob("*") if p.is_file())
        return sorted(str(p) for p in found if p.parts[0][:5] in ("Image", "Label"))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Ingest sources into one dataset in this process, with settings by keyword."""

    def go(*sources: Path, out: str = "dataset", **settings: Any) -> Run:
        place = tmp_path / out
        summary = ingest(list(sources), place, IngestSettings(workers=0, **settings))
        return Run(summary, place)

    return go
