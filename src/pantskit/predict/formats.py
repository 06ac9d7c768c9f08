"""The forms that predictions are written in.

pants      <case_id>/combined_labels.nii.gz, segmentations/ on request; label space `pants`
nnunet     <case_id>.nii.gz, labels numbered as in dataset.json, which is nnU-Net's
msd07      <case_id>.nii.gz as the Medical Segmentation Decathlon's pancreas task: 1 the gland with
           its parts and duct, 2 the lesion
dicom-seg  <case_id>/segmentation.dcm of the series that the CT was made from

Beside each lies <case_id>/prediction.json, and one dataset.json in the folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pantskit.core.dataset import mask_path
from pantskit.core.errors import ConfigError
from pantskit.core.labels import LESION, PANCREAS, PANCREAS_PARTS, PANTS, PANTS_2CLASS, STRUCTURES
from pantskit.core.labelsets import COMBINED
from pantskit.core.volume import Volume
from pantskit.core.writing import write_labels, write_volume
from pantskit.predict.dicom_seg import require_highdicom, write_segmentation
from pantskit.predict.dicom_series import source_series

FORMATS = ("pants", "nnunet", "msd07", "dicom-seg")
SEGMENTATION = "segmentation.dcm"


def require_format(
    name: str, structures: Sequence[str], *, dicom: Path | None, masks: bool
) -> None:
    """Refuse a form that this model or these options cannot fill, before anything is predicted.

    Raises:
        ConfigError: Saying what is missing.
    """
    if name not in FORMATS:
        raise ConfigError(f"format {name!r} is unknown; it is {', '.join(FORMATS)}")
    if masks and name != "pants":
        raise ConfigError(f"--masks writes separate masks of --format pants, not of {name}")
    if (
        name == "msd07"
        and PANCREAS not in structures
        and not set(PANCREAS_PARTS) <= set(structures)
    ):
        raise ConfigError("--format msd07 needs a model that knows the pancreas or all its parts")
    if name == "dicom-seg":
        require_highdicom()
        if dicom is None:
            raise ConfigError(
                "--format dicom-seg refers to the DICOM slices that the CT was made from: name "
                "their folder with --dicom"
            )
        if not dicom.is_dir():
            raise ConfigError(f"--dicom {dicom}: no such folder of DICOM files")
    elif dicom is not None:
        raise ConfigError("--dicom belongs to --format dicom-seg")


def label_files(name: str, out: Path, case_id: str) -> tuple[Path, ...]:
    """The files that hold a case's labels; separate masks are not among them."""
    if name == "dicom-seg":
        return (out / case_id / SEGMENTATION,)
    if name == "pants":
        return (out / case_id / COMBINED,)
    return (out / f"{case_id}.nii.gz",)


def label_ids(name: str, structures: Sequence[str]) -> dict[str, int]:
    """The id of each structure in the files of a form whose ids are its own."""
    if name == "msd07":
        gland = [s for s in structures if s in (PANCREAS, *STRUCTURES[PANCREAS].members)]
        return {s: 2 if s == LESION else 1 for s in gland}
    return {s: n for n, s in enumerate(structures, 1)}


def dataset_json(name: str, structures: Sequence[str]) -> dict[str, Any]:
    """What dataset.json says of the maps in a form.

    Args:
        name: of the form.
        structures: those the model knows, in the order of the 28.
    """
    if name == "nnunet":
        return {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, **label_ids(name, structures)},
            "numTraining": 0,
            "file_ending": ".nii.gz",
            "annotated": list(structures),
        }
    if name == "msd07":
        known = [PANCREAS, *([LESION] if LESION in structures else [])]
        return {
            "labels": {"0": "background", "1": "pancreas", "2": "cancer"},
            "label_space": PANTS_2CLASS.name,
            "annotated": known,
        }
    return {"label_space": PANTS.name, "annotated": list(structures)}


def write_answer(
    name: str,
    out: Path,
    case_id: str,
    image: Volume,
    labels: Volume,
    structures: Sequence[str],
    *,
    model: str,
    masks: bool = False,
    dicom: Path | None = None,
) -> None:
    """Write a case's labels in a form.

    Args:
        name: of the form.
        out: the predictions' folder.
        case_id: the case.
        image: its CT, by which its DICOM series is found.
        labels: ids of the space `pants`, on the CT's grid.
        structures: those the model knows, in the order of the 28.
        model: what made it, for the DICOM object.
        masks: of `pants`: a separate mask of each structure, too.
        dicom: of `dicom-seg`: the folder with the CT's series.

    Raises:
        DatasetError: If the series is not there.
    """
    (path,) = label_files(name, out, case_id)
    if name == "dicom-seg":
        assert dicom is not None
        series = source_series(dicom, image, case_id)
        write_segmentation(path, labels, structures, series, model=model)
        return
    if name == "pants":
        write_volume(path, labels, label_space=PANTS.name)
        for structure in structures if masks else ():
            write_labels(
                mask_path(out / case_id, structure), labels.geometry, _slices(labels, structure)
            )
        return
    space = PANTS_2CLASS.name if name == "msd07" else None
    write_volume(path, _renumbered(labels, label_ids(name, structures)), label_space=space)


def _slices(labels: Volume, structure: str) -> Iterator[bytes]:
    """The mask of a structure in file order, a slice at a time."""
    inside = np.isin(np.arange(256), PANTS.evaluation_ids(structure)).astype(np.uint8)
    return (inside[labels.array[:, :, k]].T.tobytes() for k in range(labels.array.shape[2]))


def _renumbered(labels: Volume, ids: Mapping[str, int]) -> Volume:
    table = np.zeros(256, np.uint8)
    for structure, number in ids.items():
        table[PANTS.id_of(structure)] = number
    return labels.with_array(table[labels.array])
