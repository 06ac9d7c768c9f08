"""One case scored, in a worker process."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import DatasetError, LabelError, PantskitError
from pantskit.core.geometry import Geometry, require_same_grid
from pantskit.core.labelsets import CaseLabels
from pantskit.core.labelvolumes import resample_nearest
from pantskit.core.run import Job
from pantskit.core.volume import Volume, read_volume
from pantskit.evaluate.lesions import score_lesions
from pantskit.evaluate.scores import MISSING_PREDICTION, score_structures
from pantskit.evaluate.segmentation import Segmentation
from pantskit.evaluate.settings import EvaluateConfig

_MEND = "--resample brings predictions onto the reference's grid."


@dataclass(frozen=True)
class Pair:
    """What a worker needs to score a case.

    Attributes:
        reference: its labels.
        prediction: labels predicted for it; None when there are none.
        facts: prediction.json beside them, which may be missing.
        probability: map of the tumour's probability beside them, which may be missing.
        where: the folder of predictions, for messages.
        config: settings.
        reference_fault, prediction_fault: why one of them cannot be used, known beforehand.
    """

    reference: CaseLabels
    prediction: CaseLabels | None
    facts: Path
    probability: Path
    where: Path
    config: EvaluateConfig
    reference_fault: str = ""
    prediction_fault: str = ""


def score_case(
    reference: CaseLabels,
    prediction: CaseLabels,
    config: EvaluateConfig,
    *,
    facts: dict[str, Any] | None = None,
    probability: Path | None = None,
) -> dict[str, Any]:
    """Score one prediction against its reference.

    Args:
        reference: labels scored against.
        prediction: labels predicted.
        config: structures, tolerances, definition.
        facts: what the model says of the case: `tumor_probability`, `tumor_volume_mm3`.
        probability: map of the tumour's probability, on the reference's grid unless
            `config.resample` is on; None without.

    Returns:
        `scores`: rows of the score table; `lesions` and `candidates`: rows of the tables of
        these names; `case`: for the case's row.

    Raises:
        GeometryError: If the grids differ and `config.resample` is off.
        LabelError, ImageError: If labels cannot be read.
    """
    geometry = reference.geometry
    other = _other_grid(reference, prediction, resample=config.resample)
    own_order = geometry.same_grid(prediction.geometry)
    truth = _truth(reference)
    found = Segmentation(prediction, onto=None if own_order else geometry)
    chances = None
    if probability is not None:
        chances = _read_probability(probability, geometry, resample=config.resample)
    result = score_lesions(truth, found, geometry, config, probability=chances)
    told, case = facts or {}, result.case
    case["tumor_probability"] = told.get("tumor_probability")
    case["max_probability"] = None if chances is None else float(chances.max(initial=0.0))
    if case["tumor_volume_mm3_prediction"] is None:
        case["tumor_volume_mm3_prediction"] = told.get("tumor_volume_mm3")
    return {
        "scores": list(score_structures(truth, found, geometry, config)),
        "lesions": result.lesions,
        "candidates": result.candidates,
        "case": {
            **case,
            "resampled": other,
            "faults": [
                *(f"reference {f}" for f in reference.faults),
                *prediction.faults,
                *([] if own_order or other else [_turned(prediction)]),
            ],
        },
    }


def score_pair(job: Job) -> dict[str, Any]:
    """`score_case` as a task of `run_cases`; the job's payload is a `Pair`.

    Raises:
        PantskitError: If there is no prediction of the case or it cannot be used. Its data has
            the case's worst scores as `worst`, if the reference can be read: many workers are
            quicker at it than the process that waits for them.
    """
    pair: Pair = job.payload
    try:
        return _score(job, pair)
    except PantskitError as error:
        with suppress(PantskitError, OSError):
            error.data["worst"] = worst_case(pair, status_of(pair))
        raise


def _score(job: Job, pair: Pair) -> dict[str, Any]:
    if pair.reference_fault or pair.prediction_fault:
        raise DatasetError(pair.reference_fault or pair.prediction_fault)
    if pair.prediction is None:
        raise DatasetError(
            f"{job.case_id}: no prediction in {pair.where}; it counts as the worst score. "
            "Predict the case, or leave it out with --cases"
        )
    facts = read_facts(pair.facts, job.case_id)
    probability = pair.probability if pair.probability.is_file() else None
    return score_case(
        pair.reference, pair.prediction, pair.config, facts=facts, probability=probability
    )


def worst_case(pair: Pair, status: str) -> dict[str, Any]:
    """The result of a case whose prediction is missing or cannot be used.

    Args:
        pair: the case.
        status: for its rows: missing_prediction or failed.

    Raises:
        PantskitError: If its reference cannot be read either.
    """
    if pair.reference_fault:
        raise DatasetError(pair.reference_fault)
    # A copy of the labels, so that what is read of them goes when the case is through.
    truth = Segmentation(copy(pair.reference))
    geometry = pair.reference.geometry
    result = score_lesions(truth, None, geometry, pair.config)
    scores = list(score_structures(truth, None, geometry, pair.config, unscored=status))
    return {
        "scores": scores,
        "lesions": result.lesions,
        "candidates": result.candidates,
        "case": result.case,
    }


def status_of(pair: Pair) -> str:
    """What a case that was not scored is called: missing or failed."""
    return MISSING_PREDICTION if pair.prediction is None else "failed"


def read_facts(path: Path, case_id: str) -> dict[str, float]:
    """Tumour probability and volume from prediction.json, as far as they are there.

    Raises:
        DatasetError: If the file is no JSON object or a value is no sensible number.
    """
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{case_id}: prediction.json cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise DatasetError(f"{case_id}: prediction.json is not an object of names and values")
    facts = {}
    for name, high in (("tumor_probability", 1.0), ("tumor_volume_mm3", math.inf)):
        value = data.get(name)
        if value is None:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= high or math.isinf(value):
            expected = "from 0 to 1" if high == 1 else "of 0 or more"
            raise DatasetError(
                f"{case_id}: prediction.json gives {name} = {value}; a number {expected} is "
                "expected. Correct it, or leave it out to be scored by predicted volume"
            )
        facts[name] = float(value)
    return facts


def _read_probability(path: Path, geometry: Geometry, *, resample: bool) -> NDArray[np.float32]:
    """(i, j, k) float32 tumour probabilities in [0, 1] on the reference's grid.

    Raises:
        LabelError, GeometryError: If they are no probabilities, or lie on another grid.
    """
    volume = read_volume(path)
    name = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
    chances = volume.array.astype(np.float32, copy=False)
    if chances.size and not (chances.min() >= 0 and chances.max() <= 1):  # NaN fails both
        raise LabelError(f"{name}: holds values outside 0 to 1, or NaN; no probabilities")
    if not volume.geometry.same_grid(geometry):
        if not resample and not geometry.same_voxels(volume.geometry):
            require_same_grid(
                geometry, volume.geometry, what=f"{name}: reference and probabilities", mend=_MEND
            )
        chances = resample_nearest(Volume(chances, volume.geometry), geometry).array
    return chances


def _truth(reference: CaseLabels) -> Segmentation:
    try:
        return Segmentation(reference)
    except LabelError as error:  # its mend is the option for predictions
        raise LabelError(str(error).replace("--label-map", "--reference-label-map")) from None


def _turned(prediction: CaseLabels) -> str:
    return f"axes run to {prediction.geometry.orientation} and were turned: no voxel moved"


def _other_grid(reference: CaseLabels, prediction: CaseLabels, *, resample: bool) -> bool:
    """Whether the prediction has to be resampled; another order of the same voxels has not.

    Raises:
        GeometryError: If it has, and `resample` is off.
    """
    ours: Geometry = reference.geometry
    if ours.same_voxels(prediction.geometry):
        return False
    if not resample:
        require_same_grid(
            ours,
            prediction.geometry,
            what=f"{reference.case_id}: reference and prediction",
            mend=_MEND,
        )
    return True
