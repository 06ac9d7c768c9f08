"""The declared datasets: complete, told apart, and the page that lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantskit.core.errors import ConfigError
from pantskit.core.labels import LESION
from pantskit.ingest.sources import known_sources, read_source
from pantskit.ingest.sources.catalogue import catalogue_lines, catalogue_page, catalogue_rows
from pantskit.ingest.sources.layouts import compile_pattern

PAGE = Path(__file__).parents[3] / "docs" / "datasets.md"
OF_THE_PAPER = (
    *("kits23", "lits", "tcia_pancreas_ct", "ct_org", "rsna_trauma_2023", "btcv", "chaos_ct"),
    *("abdomenct_1k", "word", "amos22_ct", "msd_ct", "panorama", "pants"),
)


def test_all_datasets_of_the_paper_are_declared() -> None:
    assert set(OF_THE_PAPER) <= {source.name for source in known_sources()}


@pytest.mark.parametrize("source", known_sources(), ids=lambda s: s.name)
def test_declaration_says_where_it_is_what_one_may_do_and_how_well_it_is_known(source) -> None:
    assert source.url.startswith("http")
    assert source.license
    assert source.terms
    assert source.citation
    assert any("label values" in fact.what for fact in source.facts)
    assert all(fact.source for fact in source.facts)
    assert "id" in compile_pattern(source.layouts[0].image).groupindex or source.patient
    assert set(source.origins) <= set(source.structures)


def test_only_these_datasets_draw_pancreatic_tumours_or_say_that_there_are_none() -> None:
    drawing = {s.name for s in known_sources() if LESION in s.structures}
    assert drawing == {"msd_ct", "panorama", "pants"}
    assert {s.name for s in known_sources() if s.lesion_negative} == {"tcia_pancreas_ct"}


def test_names_and_aliases_are_found_however_they_are_written() -> None:
    assert read_source("KiTS-23").name == "kits23"
    assert read_source("AbdomenCT-1K").name == "abdomenct_1k"
    assert read_source("amos").name == "amos22_ct"
    names = [n.lower() for s in known_sources() for n in (s.name, *s.aliases)]
    assert len(names) == len(set(names))
    with pytest.raises(ConfigError, match="it is one of abdomenatlas_1_1"):
        read_source("mri_brains")


def test_list_shows_every_dataset() -> None:
    text = "\n".join(catalogue_lines())
    for row in catalogue_rows():
        assert row["name"] in text
        assert row["url"] in text


def test_page_of_datasets_is_what_the_declarations_say() -> None:
    text = PAGE.read_text("utf-8")
    assert catalogue_page() in text, "write it again: scripts/write_dataset_page.py"


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("img/img{id#}.nii", "/x/Training/img/IMG0001.nii.gz", {"id": "0001"}),
        ("img/img{id#}.nii", "/x/img/img0001.nii.gz.part", None),
        ("a{id#}/**/*.dcm", "/x/a3/study/series/1.dcm", {"id": "3"}),
        ("a{id#}/**/*.dcm", "/x/a3/1.dcm", {"id": "3"}),
        ("{task=liver}_{id#}.nii", "/liver_003.nii", {"task": "liver", "id": "003"}),
        ("{task=liver}_{id#}.nii", "/lung_003.nii", None),
        ("(labels|Mask)/{id}.nii", "/x/mask/a b.nii", {"id": "a b"}),
        ("{id}/{id}_seg.nii", "/x/p1/p1_seg.nii", {"id": "p1"}),
        ("{id}/{id}_seg.nii", "/x/p1/p2_seg.nii", None),
        ("1.5/{id}.nii", "/x/125/a.nii", None),
    ],
)
def test_patterns(pattern: str, path: str, found: dict[str, str] | None) -> None:
    match = compile_pattern(pattern).search(path)
    assert (match.groupdict() if match else None) == found
