"""Folds and subsets: nobody on two sides, even in tumour, phase and site, from the seed alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError
from pantskit.core.records import read_table
from pantskit.train.folds import CaseFacts, case_facts, counts_of, draw_folds, draw_subset

PAPER_SIZES = (281, 2238, 9901)


@st.composite
def cohorts(draw: st.DrawFn) -> list[CaseFacts]:
    """Cases of patients with one to three scans each."""
    facts = []
    for p in range(draw(st.integers(5, 40))):
        tumor, phase, site = (draw(st.sampled_from(v)) for v in (("yes", "no"), "ab", "xyz"))
        scans = range(draw(st.integers(1, 3)))
        like = (f"patient_{p:03d}", tumor, phase, site)
        facts += [CaseFacts(f"case_{p:03d}_{n}", *like) for n in scans]
    return draw(st.permutations(facts))


def spread(numbers: Sequence[int]) -> int:
    return max(numbers) - min(numbers)


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.integers(2, 5), st.integers(0, 3))
def test_folds_keep_patients_whole_and_differ_by_one_in_every_stratum(
    facts: list[CaseFacts], n: int, seed: int
) -> None:
    folds = draw_folds(facts, n, seed)
    assert sorted(folds) == sorted(f.case_id for f in facts)
    sides = {(f.patient, folds[f.case_id]) for f in facts}
    assert len(sides) == len({f.patient for f in facts})  # nobody is on two sides

    def even(key: object) -> None:
        groups: dict[object, Counter[int]] = {}
        patients = {f.patient: (key(f), folds[f.case_id]) for f in facts}
        for group, fold in patients.values():
            groups.setdefault(group, Counter(dict.fromkeys(range(n), 0)))[fold] += 1
        assert all(spread(list(count.values())) <= 1 for count in groups.values())

    even(lambda f: "all")
    even(lambda f: f.tumor)
    even(lambda f: (f.tumor, f.phase))
    even(lambda f: f.stratum)


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.data())
def test_subsets_have_their_size_lie_in_each_other_and_follow_from_the_seed(
    facts: list[CaseFacts], data: st.DataObject
) -> None:
    large = data.draw(st.integers(1, len(facts)))
    small = data.draw(st.integers(1, large))
    seed = data.draw(st.integers(0, 3))
    inner, outer = draw_subset(facts, small, seed), draw_subset(facts, large, seed)
    assert (len(set(inner)), len(set(outer))) == (small, large)
    assert set(inner) <= set(outer)
    assert draw_subset(facts[::-1], small, seed) == inner  # whatever order they come in
    # One patient at most is there with only some scans.
    chosen = {f.patient for f in facts if f.case_id in inner}
    cut = {f.patient for f in facts if f.patient in chosen and f.case_id not in inner}
    assert len(cut) <= 1


def test_other_seed_gives_another_subset_and_other_folds() -> None:
    facts = [CaseFacts(f"case_{n}", f"case_{n}") for n in range(50)]
    assert draw_subset(facts, 20, 0) != draw_subset(facts, 20, 1)
    assert draw_folds(facts, 5, 0) != draw_folds(facts, 5, 1)


def test_impossible_sizes_are_refused() -> None:
    facts = [CaseFacts("a", "p"), CaseFacts("b", "p")]
    with pytest.raises(ConfigError, match="3 cases cannot be drawn from 2"):
        draw_subset(facts, 3, 0)
    with pytest.raises(ConfigError, match="1 patients do not make 2 folds"):
        draw_folds(facts, 2, 0)


def test_facts_come_from_the_table_and_else_from_the_labels(tmp_path: Path) -> None:
    import blobs

    dataset = blobs.write_dataset(tmp_path, n_train=2, n_test=0)
    facts = case_facts(dataset, dataset.cases())
    assert [(f.patient, f.tumor, f.phase) for f in facts] == [
        ("blob_0", "yes", "unknown"),
        ("blob_1", "no", "unknown"),
    ]
    row = {"case_id": "blob_1", "patient_id": "P7", "lesions": 2, "phase": "Venous", "site": "x"}
    dataset.write_metadata([row])
    facts = case_facts(Dataset.open(tmp_path), dataset.cases())
    assert facts[1] == CaseFacts("blob_1", "P7", "yes", "portal_venous", "x")


def test_papers_sizes_of_the_real_cohort_are_alike(shared_data: Path) -> None:
    rows = read_table(shared_data / "cohort" / "metadata_pants.csv")
    columns = {name.strip().lstrip("\ufeff"): name for name in rows[0]}
    facts = []
    for row in rows:
        case, phase, site, lesions = (
            row[columns[n]]
            for n in ("BDMAP ID", "ct phase", "site", "number of pancreatic lesion instances")
        )
        tumor = "unknown" if lesions is None else "yes" if float(lesions) > 0 else "no"
        facts.append(CaseFacts(case, case, tumor, phase or "unknown", site or "unknown"))
    subsets = [draw_subset(facts, n, 0) for n in PAPER_SIZES]
    assert [len(s) for s in subsets] == list(PAPER_SIZES)
    assert set(subsets[0]) < set(subsets[1]) < set(subsets[2])
    for chosen in subsets[:2]:
        known = set(chosen)
        part = counts_of([f for f in facts if f.case_id in known])
        for name, whole in counts_of(facts).items():
            for value, n in whole.items():
                share = abs(part[name].get(value, 0) / len(chosen) - n / len(facts))
                assert share < 0.03, (name, value)
