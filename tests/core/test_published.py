"""Published figures: Table 3 as the paper prints it, and what each dataset says of itself."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pantskit.core.labels import LESION, STRUCTURES
from pantskit.core.published import (
    Figure,
    Table3,
    headline_figure,
    published_datasets,
    table3,
)
from pantskit.ingest.sources import known_sources

# Typed from the printed table: label, tumours, CTs, institutions, countries, is pancreas marked.
PRINTED = [
    ("KiTS'23 [2020]", 0, 489, 1, 1, False),
    ("LiTS [2019]", 0, 131, 7, 5, False),
    ("TCIA-Pancr.-CT [2015]", 0, 42, 1, 1, True),
    ("CT-ORG [2020]", 0, 140, 8, 6, False),
    ("Trauma Det. [2023]", 0, 4714, 23, 13, False),
    ("BTCV [2015]", 0, 47, 1, 1, True),
    ("CHAOS [2018]", 0, 20, 1, 1, False),
    ("AbdomenCT-1K [2021]", 0, 1050, 12, 7, True),
    ("WORD [2021]", 0, 120, 1, 1, True),
    ("AMOS [2022]", 0, 200, 2, 1, True),
    ("MSD-CT [2021]", 191, 945, 1, 1, True),
    ("PANORAMA [2024]", 578, 2238, 7, 1, True),
    ("training set", 1076, 9901, 119, 12, True),
    ("test set", 2829, 26489, 26, 15, True),
]
HEADS = [
    "pancreas",
    "pancr. head/body/tail",
    "SMA",
    "pancreatic duct",
    "celiac artery",
    "CBD",
    "pancreatic veins",
    "aorta",
    "gallbladder",
    "L kidney",
    "R kidney",
    "liver",
    "IVC",
    "spleen",
    "stomach",
    "L adrenal",
    "R adrenal",
    "bladder",
    "colon",
    "duodenum",
    "L femur",
    "R femur",
    "L lung",
    "R lung",
    "prostate",
]


def test_table_3_has_the_printed_numbers_in_the_printed_order() -> None:
    found = [
        (r.label, r.pancreatic_tumours, r.scans, r.institutions, r.countries, r.marks[0] == "✓")
        for r in table3().rows
    ]
    assert found == PRINTED


def test_table_3_has_the_printed_heads_and_marks() -> None:
    assert [c.title for c in table3().columns] == HEADS
    for row in table3().rows:
        rest = "✓" if row.group == "PanTS (ours)" else "×"
        # 26 marks under 25 heads, as printed.
        assert row.marks[1:] == rest * 25


def test_columns_of_table_3_and_its_tumours_are_the_28_structures() -> None:
    columns = [s for column in table3().columns for s in column.structures]
    assert sorted([*columns, LESION]) == sorted(STRUCTURES)


def test_the_caption_counts_36390_scans_of_145_institutions_in_20_countries() -> None:
    whole = table3().whole
    assert (whole.scans, whole.institutions, whole.countries) == (36390, 145, 20)
    assert {c.name: c.value for c in table3().claims} == {
        "scale": 8.5,
        "diversity": 3,
        "tumours": 16,
    }


def test_every_declared_dataset_has_figures_and_draws_what_its_import_gives() -> None:
    published = published_datasets()
    assert set(published) == {source.name for source in known_sources()}
    for source in known_sources():
        known = published[source.name]
        assert {*known.drawn, *known.partly} == set(source.structures), source.name
        assert not set(known.drawn) & set(known.partly), source.name
        parts = {s for labels in source.labelsets.values() for s in labels.partial}
        assert parts <= set(known.partly), source.name


def test_every_row_of_table_3_is_a_published_dataset() -> None:
    assert {row.dataset for row in table3().rows} <= set(published_datasets())


@pytest.mark.parametrize(
    ("dataset", "what", "number"),
    [
        ("msd_ct", "pancreatic_tumours", 191),  # one row of Table 3
        ("pants", "scans", 9901),  # two rows: the release's own
        ("pants", "pancreatic_tumours", 1077),
        ("flare23", "institutions", None),  # words alone
        ("flare22", "countries", None),  # nobody says
        ("ours", "scans", None),
    ],
)
def test_headline_figure(dataset: str, what: str, number: int | None) -> None:
    assert headline_figure(dataset, what) == number


def test_a_figure_without_source_number_or_certainty_is_refused() -> None:
    whole = {"what": "scans", "value": 3, "source": "a page", "known": "site"}
    assert Figure(**whole).text == "3"
    for broken in (
        {**whole, "source": ""},
        {**whole, "known": "surely"},
        {**whole, "value": None},
        {**whole, "words": "about 3"},
        {**whole, "value": -1},
        {**whole, "what": "slices"},
    ):
        with pytest.raises(ValidationError):
            Figure(**broken)


def test_a_table_with_too_few_marks_is_refused() -> None:
    data = table3().model_dump()
    data["rows"][0]["marks"] = "×" * 24
    with pytest.raises(ValidationError, match="a mark for every column"):
        Table3.model_validate(data)
