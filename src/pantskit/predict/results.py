"""The predictions' folder: claimed for one model and form, filled case by case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pantskit.core.dataset import mask_path
from pantskit.core.errors import DatasetError
from pantskit.core.files import write_json
from pantskit.core.labels import LESION, PANTS, STRUCTURES, label_counts
from pantskit.core.volume import Volume
from pantskit.predict.dicom_series import source_series
from pantskit.predict.formats import dataset_json, label_files, require_format, write_answer
from pantskit.predict.postprocess import postprocess

FACTS = "prediction.json"


@dataclass(frozen=True)
class Output:
    """What becomes of an answer.

    Attributes:
        format: the form, of `formats.FORMATS`.
        postprocess: steps out of `postprocess.STEPS`, in their order.
        masks: of the form `pants`: a separate mask of each structure, too.
        dicom: of the form `dicom-seg`: folder with the DICOM that the CTs were made from.
    """

    format: str = "pants"
    postprocess: tuple[str, ...] = ()
    masks: bool = False
    dicom: Path | None = None


def claim_folder(
    out: Path,
    structures: Sequence[str],
    model: str,
    output: Output,
    *,
    reading: str | None = None,
    parts: str = "",
) -> None:
    """Make the predictions' folder and say in its dataset.json what its files mean.

    Args:
        out: the folder.
        structures: those the model knows, in the order of the 28.
        model: hash that tells it from others.
        output: what will be written.
        reading: hash of what decides, beside its weights, what its answers are.
        parts: what else than code makes it another model, for messages.

    Raises:
        ConfigError: If the form cannot be written.
        DatasetError: If it holds predictions of another model or form, or something else.
    """
    require_format(output.format, structures, dicom=output.dicom, masks=output.masks)
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out}: is a file; give a folder for the predictions")
    path = out / "dataset.json"
    earlier = _read(path)
    if earlier is None and out.is_dir() and any(not p.name.startswith(".") for p in out.iterdir()):
        raise DatasetError(f"{out}: is not empty and no predictions; give a new folder")
    another = "another model" + (f", or of other {parts}" if parts else "")
    if earlier is not None and earlier.get("model") != model:
        raise DatasetError(
            f"{out}: holds {'predictions of ' + another if 'model' in earlier else 'a dataset'}"
            "; give a new folder"
        )
    if earlier is not None and earlier.get("reading", reading) != reading:
        raise DatasetError(
            f"{out}: holds predictions of this model from before its plans.json, dataset.json or "
            "model.json changed; give a new folder"
        )
    if earlier is not None and earlier.get("format", "pants") != output.format:
        raise DatasetError(
            f"{out}: holds predictions in the format {earlier.get('format', 'pants')}; give a "
            "new folder"
        )
    said = {"name": out.name, "kind": "predictions", "format": output.format, "model": model}
    if reading is not None:
        said["reading"] = reading
    write_json(path, said | dataset_json(output.format, structures))


def output_files(out: Path, case_id: str, output: Output) -> tuple[Path, ...]:
    """The files without which a case is not done."""
    return (*label_files(output.format, out, case_id), out / case_id / FACTS)


def remove_result(out: Path, case_id: str, output: Output) -> None:
    """Take an earlier prediction away: what stayed of it would be scored as the new one."""
    masks = (mask_path(out / case_id, structure) for structure in STRUCTURES)
    for path in (*output_files(out, case_id, output), *masks):
        path.unlink(missing_ok=True)


def require_source(output: Output, image: Volume, case_id: str) -> None:
    """Refuse a CT without its DICOM series before anything is computed for it.

    Raises:
        DatasetError: If the form needs the series and it is not there.
    """
    if output.format == "dicom-seg":
        assert output.dicom is not None
        source_series(output.dicom, image, case_id)


def write_result(
    out: Path,
    case_id: str,
    image: Volume,
    labels: Volume,
    structures: Sequence[str],
    *,
    model: str,
    output: Output,
) -> dict[str, Any]:
    """Post-process an answer and write it.

    Args:
        out: the predictions' folder.
        case_id: the case.
        image: its CT.
        labels: the network's answer, ids of the space `pants` on the CT's grid.
        structures: those the model knows, in the order of the 28.
        model: its hash.
        output: what to write.

    Returns:
        For prediction.json: the case, what was written, voxels of each structure and volume of
        the tumour after post-processing, and what that changed.

    Raises:
        DatasetError: If the DICOM series of the CT is not there.
    """
    mended = postprocess(labels, output.postprocess)
    write_answer(
        output.format,
        out,
        case_id,
        image,
        mended.labels,
        structures,
        model=model,
        masks=output.masks,
        dicom=output.dicom,
    )
    counts = label_counts(mended.labels.array)
    lesion = None
    if LESION in structures:
        lesion = float(counts[PANTS.id_of(LESION)] * labels.geometry.voxel_volume_mm3)
    return {
        "case_id": case_id,
        "model": model,
        "format": output.format,
        "label_space": PANTS.name if output.format == "pants" else None,
        "structures": list(structures),
        "voxels": {s: int(counts[PANTS.id_of(s)]) for s in structures},
        "tumor_volume_mm3": lesion,
        "postprocess": mended.record,
    }


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else {}
