"""Score a folder of predictions: tables a case, a structure and a lesion, and a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pantskit.core.dataset import Dataset
from pantskit.core.errors import DatasetError, PantskitError
from pantskit.core.files import write_json
from pantskit.core.labels import LabelMap
from pantskit.core.labelsets import places_of_dataset_json
from pantskit.core.records import CaseRecord, RecordStore, versions, write_table
from pantskit.core.run import Job, Progress, RunSummary, run_cases
from pantskit.evaluate.case import Pair, score_pair, status_of, worst_case
from pantskit.evaluate.curve_tables import write_curves
from pantskit.evaluate.detection import summarize_detection
from pantskit.evaluate.lesion_detection import summarize_lesions
from pantskit.evaluate.lesions import CANDIDATE_COLUMNS, LESION_COLUMNS
from pantskit.evaluate.pairing import COMPLAINTS, pair_up
from pantskit.evaluate.scores import SCORE_COLUMNS
from pantskit.evaluate.settings import EvaluateConfig
from pantskit.evaluate.strata import summarize_strata
from pantskit.evaluate.summary import drop_unknown_structures, summarize_structures

STAGE = "evaluate"

CASE_COLUMNS = (
    "case_id",
    "patient_id",
    "site",
    "status",
    "message",
    "reference_tumor",
    "case_score",
    "tumor_probability",
    "max_probability",
    "tumor_volume_mm3_reference",
    "tumor_volume_mm3_prediction",
    "detection_score",
    "called_positive",
    "lesions_reference",
    "lesions_prediction",
    "false_positive_lesions",
    "largest_lesion_mm",
    "location",
    "resampled",
    "faults",
    "seconds",
)
# Columns of a reference dataset's metadata that later comparisons are made by.
STRATA = ("site", "phase", "sex", "age_years", "manufacturer", "diagnosis")

Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """What a scoring run found.

    Attributes:
        summary: the content of summary.json.
        run: what became of each case.
    """

    summary: dict[str, Any]
    run: RunSummary

    @property
    def complaints(self) -> dict[str, list[str]]:
        """What does not fit together beside the cases: names, by what is wrong with them."""
        return {name: self.summary["cases"][name] for name in COMPLAINTS}

    @property
    def exit_status(self) -> int:
        """0 when every case was scored and nothing was left over on either side, else 1."""
        return 1 if any(self.complaints.values()) else self.run.exit_status


def evaluate(
    predictions: Path,
    reference: Path,
    out: Path,
    config: EvaluateConfig | None = None,
    *,
    figures: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Score predictions against reference labels and write the results.

    Args:
        predictions: any form that `open_label_source` reads; prediction.json beside a case's
            labels may give its tumour probability.
        reference: likewise; a dataset gives patients and sites too.
        out: folder for scores, cases, lesions and candidates (.parquet and .csv), summary.json
            and the curves (.csv).
        config: settings.
        figures: draw them too.
        workers: processes; 0 runs in this one.
        progress: called after each case.

    Raises:
        DatasetError: If a folder or the reference's metadata cannot be used, or both share no case.
        ConfigError: If a split is asked of a reference that has none.
    """
    config = config or EvaluateConfig()
    pairing = pair_up(Path(predictions), Path(reference), config)
    pairs = pairing.pairs
    metadata = _metadata(Path(reference))
    common = [
        place / "dataset.json"
        for folder in (Path(predictions), Path(reference))
        for place in places_of_dataset_json(folder)
    ]
    jobs = [
        Job(
            case_id,
            pair,
            inputs=(
                *pair.reference.paths,
                *(pair.prediction.paths if pair.prediction else ()),
                pair.facts,
                pair.probability,
                *common,
            ),
        )
        for case_id, pair in pairs.items()
    ]
    run = run_cases(
        score_pair,
        jobs,
        stage=STAGE,
        store=RecordStore(out),
        settings=config.of_a_case | _label_maps(config) | versions(),
        workers=workers,
        progress=progress,
    )
    results = {r.case_id: _result(r, pairs[r.case_id]) for r in run.records}
    scores = [row for result in results.values() for row in result["scores"]]
    scores = drop_unknown_structures(scores, config)
    lesions, candidates = (
        [row for result in results.values() for row in result[name]]
        for name in ("lesions", "candidates")
    )
    cases = [
        _case_row(record, pairs[record.case_id], results[record.case_id]["case"], metadata, config)
        for record in run.records
    ]
    detection = summarize_detection(cases, config)
    of_lesions, froc = summarize_lesions(cases, lesions, candidates, config)
    strata = summarize_strata(cases, lesions, detection.score, detection.point)
    summary = {
        "versions": versions(),
        "settings": config.as_written,
        "cases": _count_cases(cases) | pairing.complaints,
        "structures": summarize_structures(
            scores, {c["case_id"]: c["patient_id"] for c in cases}, config
        ),
        "detection": detection.summary | of_lesions | {"strata": strata},
    }
    write_table(out / "scores", scores, columns=SCORE_COLUMNS)
    write_table(out / "cases", cases, columns=CASE_COLUMNS)
    write_table(out / "lesions", lesions, columns=LESION_COLUMNS)
    write_table(out / "candidates", candidates, columns=CANDIDATE_COLUMNS)
    write_curves(out, detection.curves, froc)
    write_json(out / "summary.json", summary)
    if figures:
        from pantskit.evaluate.figures import draw_all
        from pantskit.evaluate.gallery import draw_gallery

        draw_all(out, summary, detection.curves, froc, scores, lesions)
        draw_gallery(out, scores, pairs, Path(reference))
    return Evaluation(summary, run)


def _label_maps(config: EvaluateConfig) -> dict[str, Any]:
    """What the options mean, not how they are spelled: a file of label ids may be edited."""
    given = {"label_map": config.label_map, "reference_label_map": config.reference_label_map}
    return {name: text and asdict(LabelMap.parse(text)) for name, text in given.items()}


def _result(record: CaseRecord, pair: Pair) -> Mapping[str, Any]:
    """A case's scores, or the worst ones where it was not scored.

    Where its reference cannot be read, nothing is known of it and no score is given.
    """
    if record.status == "done":
        return record.data
    if "worst" in record.data:
        worst: Mapping[str, Any] = record.data["worst"]
        return worst
    try:  # its worker was killed, or what it met was foreseen by nobody
        return worst_case(pair, status_of(pair))
    except (PantskitError, OSError):
        return {"scores": [], "lesions": [], "candidates": [], "case": {}}


def _metadata(reference: Path) -> dict[str, Row]:
    """The reference's metadata by case; empty where it is no dataset or has no table.

    Raises:
        DatasetError: If there is a table that cannot be read: without it patients, sites and
            phases would be missing from the scores without a word.
    """
    try:
        dataset = Dataset.open(reference)
    except DatasetError:
        return {}
    return dataset.metadata


def _case_row(
    record: CaseRecord,
    pair: Pair,
    facts: Mapping[str, Any],
    metadata: Mapping[str, Row],
    config: EvaluateConfig,
) -> Row:
    known = metadata.get(record.case_id, {})
    volume = facts.get("tumor_volume_mm3_reference")
    return {
        **dict.fromkeys(CASE_COLUMNS),
        **{name: known.get(name) for name in STRATA},
        **facts,
        "case_id": record.case_id,
        # Without metadata every scan counts as a patient of its own.
        "patient_id": str(known.get("patient_id") or record.case_id),
        "status": "scored" if record.status == "done" else status_of(pair),
        "message": record.message,
        "case_score": (config.case_scores or {}).get(record.case_id),
        "reference_tumor": None if volume is None else volume > 0,
        "faults": "; ".join(facts.get("faults", ())),
        "seconds": record.seconds,
    }


def _count_cases(cases: Sequence[Row]) -> dict[str, Any]:
    not_scored = {c["case_id"]: c["message"] for c in cases if c["status"] != "scored"}
    return {
        "reference": len(cases),
        "scored": len(cases) - len(not_scored),
        "missing_prediction": [c["case_id"] for c in cases if c["status"] == "missing_prediction"],
        "failed": [c["case_id"] for c in cases if c["status"] == "failed"],
        "messages": not_scored,
        "resampled": [c["case_id"] for c in cases if c["resampled"]],
    }
