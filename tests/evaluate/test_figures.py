"""Figures: drawn where there is something to show, gone where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.evaluate.evaluation import evaluate
from pantskit.evaluate.gallery import WINDOW_MM, _ct, _window, draw_gallery, worst_rows
from pantskit.evaluate.pairing import pair_up
from pantskit.evaluate.settings import EvaluateConfig

Predict = Callable[..., Path]
PNG = b"\x89PNG\r\n\x1a\n"
ALWAYS = {"structures.png"}
OF_CURVES = {"roc.png", "precision_recall.png", "froc.png"}


def draw(predictions: Path, reference: Path, **settings: Any) -> set[str]:
    """Names of the pictures in the folder of the scores after a run."""
    config = EvaluateConfig(bootstrap_samples=50, **settings)
    out = reference.parent / "scores"
    evaluate(predictions, reference, out, config, figures=True, workers=0)
    pictures = list(out.glob("*.png"))
    assert all(p.read_bytes().startswith(PNG) for p in pictures)
    return {p.name for p in pictures}


def test_pictures_of_an_earlier_run_go_with_what_they_show(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    predict("b_1", cohort.body())
    every = ALWAYS | OF_CURVES | {"lesions_by_size.png", "failures.png"}
    assert draw(perfect, reference) == every
    # Two normal cases that are right everywhere: no curve, no lesion, no failure.
    assert draw(perfect, reference, cases=("a_2", "c_1")) == ALWAYS
    assert draw(perfect, reference, structures=("spleen",)) == OF_CURVES | {"lesions_by_size.png"}


def test_a_run_without_figures_leaves_no_old_curve_behind(perfect: Path, reference: Path) -> None:
    draw(perfect, reference)
    out = reference.parent / "scores"
    evaluate(perfect, reference, out, EvaluateConfig(bootstrap_samples=50), workers=0)
    assert not (out / "roc.png").exists()


def test_the_gallery_shows_resampled_predictions(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    for path in (perfect / "b_1" / "segmentations").iterdir():
        path.unlink()
    turned = Volume(cohort.empty, cohort.geometry).reoriented("RPS").geometry
    wrong = {s: np.asfortranarray(m[:, ::-1]) for s, m in cohort.body().items()}
    predict("b_1", wrong, geometry=turned)
    assert "failures.png" in draw(perfect, reference, resample=True)


def test_the_gallery_shows_the_ct_and_survives_labels_that_went(
    cohort: Any, perfect: Path, reference: Path, predict: Predict
) -> None:
    ct = np.full(cohort.geometry.shape, 100, np.int16, order="F")
    write_volume(reference / "ImageTe" / "b_1" / "ct.nii.gz", Volume(ct, cohort.geometry))
    predict("b_1", cohort.body())
    assert "failures.png" in draw(perfect, reference)
    assert (_ct(reference, "b_1", cohort.geometry) == 100).all()
    assert (_ct(reference, "a_1", cohort.geometry) == -1000).all()  # none there: black
    other = Volume(cohort.empty, cohort.geometry).reoriented("RPS").geometry
    assert (_ct(reference, "b_1", other) == -1000).all()
    # Labels that were damaged after they were scored cost their panel and nothing else.
    out = reference.parent / "scores"
    (perfect / "b_1" / "segmentations" / "pancreatic_lesion.nii.gz").write_text("no image")
    pairs = pair_up(perfect, reference, EvaluateConfig()).pairs
    draw_gallery(out, [score("b_1", "pancreatic_lesion", 0.0)], pairs, reference)
    assert not (out / "failures.png").exists()


def score(case_id: str, structure: str, dsc: float | None, **more: Any) -> dict[str, Any]:
    row = {"case_id": case_id, "structure": structure, "dsc": dsc, "status": "scored"}
    return row | {"tolerance_mm": 2.0} | more


def test_missed_tumours_come_first_then_the_pancreas_each_case_once() -> None:
    rows = [
        score("a", "liver", 0.1),
        score("a", "pancreas", 0.5),
        score("b", "pancreatic_lesion", 0.3),
        score("b", "pancreas", 0.2),
        score("c", "pancreatic_lesion", 0.0),
        score("c", "pancreatic_lesion", 0.0, tolerance_mm=5.0),
        score("d", "pancreatic_lesion", None, status="both_empty"),
        score("d", "liver", 1.0),
        score("e", "pancreatic_lesion", 0.0, status="missing_prediction"),
    ]
    shown = [(r["case_id"], r["structure"]) for r in worst_rows(rows)]
    assert shown == [("c", "pancreatic_lesion"), ("b", "pancreatic_lesion"), ("a", "pancreas")]
    assert len(worst_rows(rows, 1)) == 1
    assert worst_rows([]) == []


@pytest.mark.parametrize("corner", [(0, 0), (200, 60), (396, 296)])
def test_the_window_holds_the_failure_wherever_it_lies(corner: tuple[int, int]) -> None:
    grid = Geometry.from_spacing((400, 300, 3), (1.0, 1.0, 5.0))
    failed = np.zeros(grid.shape, np.bool_, order="F")
    failed[corner[0] : corner[0] + 4, corner[1] : corner[1] + 4, 1] = True
    rows, columns, height = _window(failed, grid, 1)
    per_mm = height / 300
    assert (rows.stop - rows.start) / per_mm == pytest.approx(WINDOW_MM, abs=1)
    assert (columns.stop - columns.start) / per_mm == pytest.approx(WINDOW_MM, abs=1)
    assert 0 <= rows.start < rows.stop <= height
    assert 0 <= columns.start < columns.stop <= round(400 * per_mm)
    # The grid runs to the left and to the front (LAS), the picture to the left and to the back.
    down = (300 - corner[1] - 2) * per_mm
    across = (corner[0] + 2) * per_mm
    assert rows.start <= down <= rows.stop
    assert columns.start <= across <= columns.stop


def test_a_failure_larger_than_the_window_is_shown_whole() -> None:
    grid = Geometry.from_spacing((400, 300, 3), (1.0, 1.0, 5.0))
    failed = np.zeros(grid.shape, np.bool_, order="F")
    failed[20:380, 100:110, 1] = True
    rows, columns, height = _window(failed, grid, 1)
    assert (columns.stop - columns.start) / (height / 300) >= 360
    assert rows.start == 0
