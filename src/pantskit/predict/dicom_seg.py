"""A prediction as a DICOM segmentation of the series that its CT was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pantskit import __version__
from pantskit.core.errors import ConfigError
from pantskit.core.files import atomic_path
from pantskit.core.labels import PANTS, STRUCTURES
from pantskit.core.terms import SCHEME, Coded, structure_terms
from pantskit.core.volume import Volume
from pantskit.predict.dicom_series import SourceSeries

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom.dataset import Dataset

SERIES_NUMBER = 7100  # beyond what scanners number, so that viewers list it last


def require_highdicom() -> None:
    """Refuse to begin without the library that writes segmentations.

    Raises:
        ConfigError: If it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("highdicom") is None:
        raise ConfigError("--format dicom-seg needs highdicom: pip install 'pantskit[dicom-seg]'")


def write_segmentation(
    path: Path, labels: Volume, structures: Sequence[str], series: SourceSeries, *, model: str
) -> None:
    """Write a label map as a binary DICOM segmentation, a segment a structure.

    Segments overlap as the structures do: the pancreas holds its parts, duct and lesion. A
    structure without a voxel is a segment without frames. Patient and study are the series'
    own, as a PACS needs them: the file is as identifying as its source.

    Args:
        path: the file.
        labels: ids of the space `pants`, on the grid of the CT.
        structures: those the model knows.
        series: the slices that the segments refer to, on that grid.
        model: what made it, for the algorithm's version.
    """
    from highdicom import UID
    from highdicom.seg import Segmentation

    turned = labels.reoriented(series.geometry.orientation).array
    filled = np.flatnonzero(turned.any(axis=(0, 1)))
    slices = filled.tolist() or [0]
    sources = [_completed(header) for header in series.headers(slices)]
    segmentation = Segmentation(
        source_images=sources,
        pixel_array=_stacked(turned, slices, structures),
        segmentation_type="BINARY",
        segment_descriptions=[
            _description(number, structure, model) for number, structure in enumerate(structures, 1)
        ],
        series_instance_uid=UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="pantskit",
        manufacturer_model_name="pantskit predict",
        software_versions=__version__,
        device_serial_number="0",
        content_label="PREDICTION",
        content_description="Automatic segmentation, not for clinical use",
    )
    with atomic_path(path) as part:
        segmentation.save_as(part, enforce_file_format=True)


def _stacked(
    turned: NDArray[Any], slices: Sequence[int], structures: Sequence[str]
) -> NDArray[np.uint8]:
    """(frames, rows, columns, segments) 0 and 1, of some slices."""
    part = np.ascontiguousarray(turned[:, :, slices].transpose(2, 1, 0))
    stacked = np.empty((*part.shape, len(structures)), np.uint8)
    for n, structure in enumerate(structures):
        table = np.zeros(256, np.uint8)
        table[list(PANTS.evaluation_ids(structure))] = 1
        stacked[..., n] = table[part]
    return stacked


def _description(number: int, structure: str, model: str) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    term = structure_terms()[structure]
    described = SegmentDescription(
        segment_number=number,
        segment_label=structure,
        segmented_property_category=_concept(term.category),
        segmented_property_type=_concept(term.kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name="pantskit predict",
            family=codes.DCM.ArtificialIntelligence,
            version=f"{__version__}, model {model[:16]}",
        ),
        anatomic_regions=[_concept(term.region)] if term.region else None,
        display_color=CIELabColor.from_rgb(*STRUCTURES[structure].color),
    )
    if term.side:
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(term.side)]
    return described


def _concept(coded: Coded) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(coded.value, SCHEME, coded.meaning)


def _completed(header: Dataset) -> Dataset:
    """A header with the elements that a segmentation copies, empty where the source has none."""
    for keyword in (
        "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber",
        "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName",
    ):  # fmt: skip
        if keyword not in header:
            setattr(header, keyword, "")
    if not header.get("FrameOfReferenceUID"):
        # Required of a segmentation; slices of a series that names none share one all the same.
        from pydicom.uid import generate_uid

        header.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(header.SeriesInstanceUID)])
    return header
