"""The comparison: Table 3 as printed, disagreements marked, own datasets beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pantskit.core.dataset import Dataset
from pantskit.core.labels import LESION
from pantskit.core.published import table3
from pantskit.describe.comparison import NUMBERS, Comparison, Row, build_comparison
from pantskit.describe.counting import count_dataset
from pantskit.describe.ratios import own_ratios, unmatched_claims

# Typed from the printed table: tumours, CTs, institutions, countries, then 25 marks.
PRINTED = {
    "KiTS'23 [2020]": "0 489 1 1 " + "×" * 25,
    "LiTS [2019]": "0 131 7 5 " + "×" * 25,
    "TCIA-Pancr.-CT [2015]": "0 42 1 1 ✓" + "×" * 24,
    "CT-ORG [2020]": "0 140 8 6 " + "×" * 25,
    "Trauma Det. [2023]": "0 4,714 23 13 " + "×" * 25,
    "BTCV [2015]": "0 47 1 1 ✓" + "×" * 24,
    "CHAOS [2018]": "0 20 1 1 " + "×" * 25,
    "AbdomenCT-1K [2021]": "0 1,050 12 7 ✓" + "×" * 24,
    "WORD [2021]": "0 120 1 1 ✓" + "×" * 24,
    "AMOS [2022]": "0 200 2 1 ✓" + "×" * 24,
    "MSD-CT [2021]": "191 945 1 1 ✓" + "×" * 24,
    "PANORAMA [2024]": "578 2,238 7 1 ✓" + "×" * 24,
    "PanTS (ours), training set": "1,076 9,901 119 12 " + "✓" * 25,
    "PanTS (ours), test set": "2,829 26,489 26 15 " + "✓" * 25,
}


@pytest.fixture(scope="module")
def published() -> Comparison:
    return build_comparison()


def row_of(comparison: Comparison, label: str) -> Row:
    return next(row for row in comparison.rows if row.label == label)


def signs_of(comparison: Comparison, label: str) -> dict[str, str]:
    """Column to what stands behind its mark, where anything does."""
    marks = row_of(comparison, label).marks
    titled = zip(comparison.columns, marks, strict=True)
    return {column.title: cell.sign for column, cell in titled if cell.sign}


def test_rows_of_table_3_are_the_printed_ones_cell_by_cell(published: Comparison) -> None:
    found = {
        row.full_label: " ".join(
            [*(cell.text for cell in row.numbers), "".join(cell.text for cell in row.marks)]
        )
        for row in published.of_kind("printed")
    }
    assert list(found.items()) == list(PRINTED.items())


def test_marks_that_a_datasets_own_labels_contradict_are_signed(published: Comparison) -> None:
    assert signs_of(published, "LiTS [2019]") == {"liver": "†"}
    assert signs_of(published, "KiTS'23 [2020]") == {"L kidney": "†", "R kidney": "†"}
    assert signs_of(published, "PANORAMA [2024]") == {
        "pancreatic duct": "†",
        "CBD": "†",
        "pancreatic veins": "‡",
    }
    assert signs_of(published, "MSD-CT [2021]") == {"pancreas": "‡", "liver": "‡", "spleen": "‡"}
    assert len(signs_of(published, "BTCV [2015]")) == 12
    assert len(signs_of(published, "AMOS [2022]")) == 13
    for label in ("training set", "test set"):
        assert signs_of(published, label) == {}


def test_both_of_two_numbers_that_disagree_stand_in_a_note(published: Comparison) -> None:
    notes = {
        (row.label, what): [published.notes[n - 1] for n in cell.notes]
        for row in published.of_kind("printed")
        for (what, _), cell in zip(NUMBERS, row.numbers, strict=True)
        if cell.notes
    }
    (msd,) = notes["MSD-CT [2021]", "pancreatic_tumours"]
    assert "191 in Table 3; 281 by another source" in msd
    assert "[paper]" in msd
    (trauma,) = notes["Trauma Det. [2023]", "scans"]
    assert "4,714 in Table 3; 4,706 by another source" in trauma
    (ours,) = notes["training set", "pancreatic_tumours"]
    assert "1,076 in Table 3; 1,077 by another source" in ours
    # A source that agrees is no note, and the test set has no other figures.
    assert ("LiTS [2019]", "institutions") not in notes
    assert not [label for label, _ in notes if label == "test set"]


def test_every_number_of_other_datasets_has_its_source_in_a_note(published: Comparison) -> None:
    rows = published.of_kind("published")
    assert {row.name for row in rows} == {
        *("abdomenatlas_1_1", "abdomenct_12organ", "flare22", "flare23", "totalsegmentator_v2")
    }
    for row in rows:
        for cell in row.numbers:
            assert (cell.text == "?") == (not cell.notes)
            for note in cell.notes:
                assert published.notes[note - 1].endswith(("[paper]", "[site]", "[memory]"))
    flare = row_of(published, "FLARE 2023, labelled")
    assert [cell.text for cell in flare.numbers] == ["not told", "2,200", "over 40", "?"]
    assert flare.marks[0].text == "(✓)"


def test_what_the_table_and_the_paper_disagree_on_is_remarked(published: Comparison) -> None:
    text = "\n".join(published.remarks)
    assert "25 heads over structures and 26 marks" in text
    assert "27 structures: the pancreas, its three parts and 23 others" in text
    assert "12 and 15 countries, 27 together, and the caption 20" in text


def test_ratios_say_what_is_divided_and_what_the_paper_states(published: Comparison) -> None:
    found = {(r.name, r.formula): r for r in published.ratios}
    assert found["scale", "36,390 / 2,238"].text == "16.3"
    assert found["scale", "36,390 / 4,714"].text == "7.72"
    assert "over 8.5x larger" in found["scale", "36,390 / 4,714"].stated
    assert found["diversity", "145 / 23"].text == "6.30"
    assert found["diversity", "20 / 13"].text == "1.54"
    assert found["tumours", "3,905 / 578"].text == "6.76"
    assert found["share", "1,076 / 9,901"].text == "10.9 %"
    assert found["share", "191 / 945"].text == "20.2 %"
    # 489+131+42+140+4714+47+20+1050+120+200+945+2238 scans, 191+578 tumours.
    assert found["sums", "9,901 / 10,136"].text == "0.98"
    assert found["sums", "1,076 / 769"].text == "1.40"
    assert all(r.definition for r in published.ratios)
    assert all(r.stated for r in published.ratios if r.name in ("scale", "diversity", "tumours"))


def test_ratios_that_the_paper_states_and_the_table_does_not_give_are_told() -> None:
    told = unmatched_claims(table3())
    assert len(told) == 3
    assert [text.split(" gives ")[1] for text in told] == ["8.5.", "3.", "16."]
    # Had the caption said 16.3, the table would give it.
    table = table3()
    right = table.claims[0].model_copy(update={"value": 16.3})
    assert unmatched_claims(table.model_copy(update={"claims": (right,)})) == ()


def test_an_own_dataset_shows_shares_and_question_marks(three_cases: Dataset) -> None:
    comparison = build_comparison([count_dataset(three_cases, workers=0)[0]])
    (row,) = comparison.of_kind("counted")
    assert [cell.text for cell in row.numbers] == ["1", "2", "2", "1"]
    texts = {c.title: m.text for c, m in zip(comparison.columns, row.marks, strict=True)}
    assert texts["pancreas"] == "✓"
    assert texts["liver"] == "1/3"
    assert texts["pancr. head/body/tail"] == "0/3"  # one case has the head alone
    assert texts["colon"] == "×"
    notes = [comparison.notes[n - 1] for cell in (*row.numbers, row) for n in cell.notes]
    assert notes == [
        "ours: 1 of 3 cases do not tell whether they have a tumour.",
        "ours: 2 of 3 cases do not say their country.",
        "ours: 1 of 3 cases have labels and no CT.",
    ]


def test_of_a_dataset_that_tells_nothing_nothing_is_zero(
    make_dataset: Callable[..., Dataset],
) -> None:
    counts, _ = count_dataset(make_dataset({"c1": {"liver": True}}), workers=0)
    comparison = build_comparison([counts])
    (row,) = comparison.of_kind("counted")
    assert [cell.text for cell in row.numbers] == ["?", "1", "?", "?"]
    assert [len(cell.notes) for cell in row.numbers] == [1, 0, 1, 1]
    assert "c1" not in str(comparison.notes)


def test_a_dataset_of_which_no_case_can_be_read_is_all_question_marks(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset({"c1": None})
    dataset.image_path("c1", "train").write_bytes(b"nonsense")
    comparison = build_comparison([count_dataset(dataset, workers=0)[0]])
    (row,) = comparison.of_kind("counted")
    assert {cell.text for cell in (*row.numbers, *row.marks)} == {"?"}
    assert "ours: 1 cases could not be read and are counted nowhere." in comparison.notes


def test_own_ratios_have_the_cases_that_tell_below_the_line(three_cases: Dataset) -> None:
    scans, share = own_ratios(table3(), count_dataset(three_cases, workers=0)[0])
    assert scans.formula == "9,901 / 2"
    assert (share.formula, share.text) == ("1 / 2", "50.0 %")


def test_datasets_that_share_cases_say_so_in_both_rows(
    three_cases: Dataset, make_dataset: Callable[..., Dataset]
) -> None:
    other = make_dataset({"c1": {LESION: True, "pancreas": True}}, name="other")
    counted = [count_dataset(d, workers=0)[0] for d in (three_cases, other)]
    comparison = build_comparison(counted)
    note = "1 case IDs are in both ours and other: those scans count twice."
    number = comparison.notes.index(note) + 1
    assert all(number in row.notes for row in comparison.of_kind("counted"))
