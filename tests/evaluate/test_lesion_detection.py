"""Lesions through a whole run: rules, candidates, FROC and picai_eval's ten crafted cases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pantskit.core.dataset import Dataset, write_case_labels
from pantskit.core.geometry import Geometry
from pantskit.core.records import read_table
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.evaluate.evaluation import evaluate
from pantskit.evaluate.settings import EvaluateConfig

Row = dict[str, Any]
Box = tuple[int, int, int, int]  # first and last i and j, ends excluded

GRID = Geometry.from_spacing((40, 20, 6), (1.0, 1.0, 3.0))


def painted(boxes: Sequence[Box], *, slices: slice = slice(2, 3)) -> NDArray[np.bool_]:
    mask = np.zeros(GRID.shape, np.bool_, order="F")
    for i0, i1, j0, j1 in boxes:
        mask[i0:i1, j0:j1, slices] = True
    return mask


class Cohort:
    """References and predictions of tumours alone, on disk."""

    def __init__(self, root: Path) -> None:
        self.dataset = Dataset.create(root / "reference", annotated=("pancreatic_lesion",))
        self.predictions = root / "predictions"
        self.out = root / "scores"

    def add(
        self,
        case_id: str,
        lesions: Sequence[Box],
        candidates: Mapping[Box, float] | Sequence[Box],
    ) -> None:
        """A case; candidates with their probabilities, where they have any."""
        masks = {"pancreatic_lesion": painted(lesions)}
        write_case_labels(self.dataset, case_id, "test", masks, GRID)
        folder = self.predictions / case_id
        found = painted(list(candidates))
        write_volume(folder / "segmentations" / "pancreatic_lesion.nii.gz", Volume(found, GRID))
        if isinstance(candidates, Mapping):
            chances = np.zeros(GRID.shape, np.float32, order="F")
            for box, chance in candidates.items():
                chances[painted([box])] = chance
            self.write_chances(case_id, chances)

    def write_chances(
        self, case_id: str, chances: NDArray[np.float32], grid: Geometry = GRID
    ) -> None:
        path = self.predictions / case_id / "probabilities" / "pancreatic_lesion.nii.gz"
        write_volume(path, Volume(chances, grid))

    def score(self, **settings: Any) -> Row:
        config = EvaluateConfig(bootstrap_samples=100, **settings)
        result = evaluate(self.predictions, self.dataset.root, self.out, config, workers=0)
        return result.summary

    def table(self, name: str) -> list[Row]:
        return read_table(self.out / f"{name}.parquet")


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


# The ten cases of picai_eval's tests, built again from what those say of each: lesions, and
# candidates with their confidences (there 1 and 2, here 0.4 and 0.8).
ONE, TWO = 0.4, 0.8
PICAI: list[tuple[list[Box], dict[Box, float]]] = [
    ([], {}),
    ([(5, 10, 5, 10)], {}),
    ([], {(5, 10, 5, 10): ONE}),
    ([(5, 10, 5, 10)], {(20, 25, 5, 10): ONE}),
    ([(4, 8, 5, 10)], {(6, 10, 5, 10): ONE}),  # IoU 1/3
    ([(10, 15, 10, 15)], {(12, 17, 12, 17): ONE, (6, 11, 8, 13): TWO}),  # 9/41 and 3/47
    ([(10, 22, 3, 6)], {(4, 16, 3, 6): ONE, (18, 24, 3, 6): TWO}),  # 1/3 and 2/7
    ([(10, 13, 3, 7), (16, 19, 3, 7)], {(10, 19, 3, 7): ONE}),  # 1/3 of both
    ([(10, 15, 3, 7), (20, 21, 3, 7)], {(10, 21, 3, 7): ONE}),  # 5/11 and 1/11
    ([(10, 15, 5, 10)], {(12, 13, 7, 8): ONE}),  # 1/25
]


@pytest.fixture
def picai(cohort: Cohort) -> Cohort:
    for n, (lesions, candidates) in enumerate(PICAI):
        cohort.add(f"case_{n}", lesions, candidates)
    return cohort


def test_picai_evals_ten_cases_through_a_whole_run(picai: Cohort) -> None:
    summary = picai.score(hit_rule="iou")["detection"]
    lesions, candidates = picai.table("lesions"), picai.table("candidates")
    found = [r for r in lesions if r["picai_found_by"]]
    wrong = [r for r in candidates if r["picai_false_positive"]]
    assert (len(found), len(wrong), len(lesions) - len(found)) == (5, 4, 5)
    ious = {(r["case_id"], r["lesion"]): r["overlap"] for r in found}
    assert ious == pytest.approx(
        {
            ("case_4", 1): 1 / 3,
            ("case_5", 1): 9 / 41,
            ("case_6", 1): 1 / 3,
            ("case_7", 1): 1 / 3,
            ("case_8", 1): 5 / 11,
        }
    )
    values = {n: summary["picai"][n]["value"] for n in ("average_precision", "auroc", "score")}
    assert values == pytest.approx(
        {"average_precision": 5 / 18, "auroc": 0.75, "score": (5 / 18 + 0.75) / 2}, abs=1e-12
    )
    assert summary["sensitivity_tumor"]["count"] == 5
    assert "picai" not in summary["score_is"]
    assert summary["picai"]["auroc_is"].startswith("cases ranked by their most confident")


def test_froc_of_the_ten_cases_by_hand(picai: Cohort) -> None:
    """One false positive before all others, then five lesions beside three more."""
    froc = picai.score()["detection"]["froc"]
    at = {n: e["value"] for n, e in froc["sensitivity_at_false_positives"].items()}
    assert at == {"1": 0.5, "0.5": 0.5, "0.25": 0, "0.1": 0, "0.01": 0, "0.001": 0, "0.0001": 0}
    rows = (picai.out / "froc.csv").read_text().splitlines()
    assert rows[0] == "threshold,sensitivity,false_positives_per_scan"
    points = [tuple(map(float, row.split(","))) for row in rows[1:]]
    expected = [(np.inf, 0, 0), (TWO, 0, 0.1), (ONE, 0.5, 0.4)]
    assert points == [pytest.approx(point) for point in expected]


def test_a_missing_normal_case_is_one_false_positive_before_all_others(picai: Cohort) -> None:
    """case_0, without lesion, was right before: now 5 of 10 candidates are wrong."""
    shutil.rmtree(picai.predictions / "case_0")
    summary = picai.score()["detection"]
    assert summary["picai"]["average_precision"]["value"] == pytest.approx(5 / 10 / 2)
    assert summary["froc"]["scans"] == 10
    # It ranked below seven tumour cases and level with one; now it ranks above all.
    assert summary["picai"]["auroc"]["value"] == pytest.approx((12 - 7.5) / 16)


def test_a_missing_tumour_case_misses_its_lesions(picai: Cohort) -> None:
    shutil.rmtree(picai.predictions / "case_4")
    summary = picai.score(hit_rule="iou")["detection"]
    # 4 found lesions behind or level with 4 false ones.
    assert summary["picai"]["average_precision"]["value"] == pytest.approx(4 / 8 * 4 / 10)
    assert summary["sensitivity_tumor"]["count"] == 4
    assert summary["sensitivity_tumor"]["of"] == 10


def test_candidates_of_cases_nobody_annotated_do_not_count(picai: Cohort) -> None:
    before = picai.score()["detection"]
    picai.add("extra", [], [(5, 10, 5, 10)])  # no probabilities either
    label = picai.dataset.root / "LabelTe" / "extra" / "segmentations"
    (label / "pancreatic_lesion.nii.gz").rename(label / "liver.nii.gz")
    after = picai.score(structures=("pancreatic_lesion",))["detection"]
    assert after["cases_without_tumor_annotation"] == 1
    for name in ("picai", "froc"):
        assert after[name] == before[name]
    (row,) = (r for r in picai.table("candidates") if r["case_id"] == "extra")
    assert (row["picai_false_positive"], row["false_positive"], row["best_iou"]) == (None,) * 3


def test_without_probabilities_in_every_case_volumes_rank_candidates(picai: Cohort) -> None:
    shutil.rmtree(picai.predictions / "case_5" / "probabilities")
    summary = picai.score()["detection"]
    assert summary["picai"]["rule"].endswith("their volume in mm3")
    # Volumes: 44 and 36 (found), 36 (found), 25 twice false, 25 found, 25 false, 20, 18, 1 false.
    # As found: case 8 (44), 6 and 7 (36), 5 (25), 4 (20); false: cases 2, 3, 5 (25), 9 (1).
    expected = (1 * 1 + 1 * 2 + 4 / 7 * 1 + 5 / 8 * 1) / 10
    assert summary["picai"]["average_precision"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rule", "minimum", "hits"),
    [
        ("touch", None, [True, True]),
        ("iou", None, [True, True]),
        ("iou", 0.14, [True, False]),
        ("dice", 0.24, [True, False]),
        ("overlap", 0.2, [True, False]),
        ("overlap", 0.26, [False, False]),
        ("centre", None, [False, True]),
        ("iou", 0.0, [True, True]),
    ],
)
def test_every_rule_by_hand(
    cohort: Cohort, rule: str, minimum: float | None, hits: list[bool]
) -> None:
    """A lesion of 8 x 8 whose candidate lies 6 further, one of 2 x 4 that one voxel touches."""
    cohort.add("a", [(2, 10, 2, 10), (30, 32, 2, 6)], [(8, 16, 2, 10), (31, 32, 4, 5)])
    cohort.add("b", [], [])
    summary = cohort.score(hit_rule=rule, hit_minimum=minimum)
    rows = cohort.table("lesions")
    assert [r["hit"] for r in rows] == hits
    assert [r["best_iou"] for r in rows] == pytest.approx([16 / 112, 1 / 8])
    assert [r["best_dsc"] for r in rows] == pytest.approx([32 / 128, 2 / 9])
    assert [r["overlap_fraction"] for r in rows] == pytest.approx([16 / 64, 1 / 8])
    assert [r["found_by"] for r in rows] == [n * hit for n, hit in zip((1, 2), hits, strict=True)]
    told = summary["detection"]["sensitivity_tumor"]
    assert (told["count"], told["of"]) == (sum(hits), 2)
    assert told["rule"] == summary["settings"]["hit_rule_is"]
    wrong = summary["detection"]["false_positive_lesions"]
    assert (wrong["total"], wrong["cases"]) == (2 - sum(hits), 2)


def test_a_centre_between_two_voxels_belongs_to_the_upper_one_everywhere(cohort: Cohort) -> None:
    """Centres at 10.5 and 21.5 along i: lesions from 11 and from 22 hold them."""
    lesions = [(11, 14, 5, 6), (22, 25, 5, 6)]
    cohort.add("a", lesions, [(10, 12, 5, 6), (21, 23, 5, 6)])
    cohort.add("b", [], [])
    assert cohort.score(hit_rule="centre")["detection"]["sensitivity_tumor"]["count"] == 2


def test_a_cohort_without_tumours_has_false_positives_and_no_curve(cohort: Cohort) -> None:
    cohort.add("a", [], [(1, 3, 1, 3), (6, 8, 1, 3)])
    cohort.add("b", [], [])
    summary = cohort.score()["detection"]
    assert (summary["froc"], summary["picai"], summary["auc"]) == (None, None, None)
    assert summary["false_positive_lesions"] == {"total": 2, "per_case": 1.0, "cases": 2}
    assert json.loads((cohort.out / "summary.json").read_text())["detection"]["sensitivity_tumor"][
        "value"
    ] is None  # fmt: skip


def test_a_cohort_without_normal_cases_has_average_precision_and_no_score(cohort: Cohort) -> None:
    cohort.add("a", [(2, 6, 2, 6)], [(2, 6, 2, 6)])
    cohort.score()
    summary = json.loads((cohort.out / "summary.json").read_text())["detection"]
    assert summary["picai"]["average_precision"]["value"] == 1.0
    assert (summary["picai"]["auroc"]["value"], summary["picai"]["score"]["value"]) == (None, None)
    assert summary["auc_note"] == "needs cases with and without tumour"


def test_places_are_the_part_that_holds_most_or_is_nearest(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "reference", annotated=("pancreatic_lesion",))
    masks = {
        "pancreas_head": painted([(2, 12, 5, 10)]),
        "pancreas_tail": painted([(16, 30, 5, 10)]),
        # Two thirds in the tail; none in any part, nearest to the head.
        "pancreatic_lesion": painted([(11, 12, 6, 8), (12, 20, 6, 8), (2, 4, 14, 16)]),
    }
    write_case_labels(dataset, "a", "test", masks, GRID)
    evaluate(dataset.root, dataset.root, tmp_path / "scores", workers=0)
    rows = read_table(tmp_path / "scores" / "lesions.parquet")
    assert [r["location"] for r in rows] == ["tail", "head"]


def test_probability_of_a_case_is_the_largest_of_its_map(picai: Cohort) -> None:
    summary = picai.score(probability=0.5)["detection"]
    assert summary["score"] == "max_probability"
    (point,) = (p for p in summary["operating_points"] if p["score"] == "max_probability")
    assert point["sensitivity_patient"]["count"] == 2  # cases 5 and 6
    assert point["specificity"]["count"] == 2
    rows = {r["case_id"]: r["probability"] for r in picai.table("candidates")}
    assert rows["case_2"] == pytest.approx(ONE)


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "or NaN"), (1.5, "outside 0 to 1"), (-0.1, "outside 0 to 1")]
)
def test_a_map_of_no_probabilities_fails_its_case(picai: Cohort, value: float, said: str) -> None:
    chances = np.zeros(GRID.shape, np.float32, order="F")
    chances[3, 3, 3] = value
    picai.write_chances("case_4", chances)
    cases = picai.score()["cases"]
    assert cases["failed"] == ["case_4"]
    message = cases["messages"]["case_4"]
    assert message.startswith("case_4/probabilities/pancreatic_lesion.nii.gz: ")
    assert said in message


def test_a_map_on_another_grid_is_refused_or_resampled(picai: Cohort) -> None:
    coarse = Geometry.from_spacing((20, 20, 6), (2.0, 1.0, 3.0))
    chances = np.full(coarse.shape, 0.25, np.float32, order="F")
    picai.write_chances("case_4", chances, coarse)
    message = picai.score()["cases"]["messages"]["case_4"]
    assert "different grids" in message
    assert "(20, 20, 6)" in message
    assert "--resample" in message
    assert picai.score(resample=True)["cases"]["failed"] == []
    (row,) = (r for r in picai.table("candidates") if r["case_id"] == "case_4")
    assert row["probability"] == 0.25


def test_lesions_and_candidates_hold_every_voxel_of_their_masks(cohort: Cohort) -> None:
    """Random boxes all over the grid, its border included, against scipy's components."""
    rng = np.random.default_rng(11)
    masks: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}
    for n in range(12):
        sides = []
        for count in rng.integers(0, 6, 2):
            corners = rng.integers((0, 0), (40, 20), (count, 2))
            sides.append([(i, i + 3, j, j + 3) for i, j in corners.tolist()])
        cohort.add(f"{n:02}", sides[0], sides[1])
        masks[f"{n:02}"] = painted(sides[0]), painted(sides[1])
    cohort.score()
    rows = {r["case_id"]: r for r in cohort.table("cases")}
    for case_id, both in masks.items():
        for mask, table, side in zip(
            both, ("lesions", "candidates"), ("reference", "prediction"), strict=True
        ):
            parts = [r for r in cohort.table(table) if r["case_id"] == case_id]
            assert len(parts) == ndimage.label(mask, np.ones((3, 3, 3)))[1]
            assert sum(r["voxels"] for r in parts) == mask.sum()
            assert rows[case_id][f"lesions_{side}"] == len(parts)
            volume = rows[case_id][f"tumor_volume_mm3_{side}"]
            assert volume == pytest.approx(3.0 * mask.sum())
