"""The planters of benchmarks/quality.py change what they say and nothing else."""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import planted_aims
import planted_faults
import planted_report
import planted_run
from planted_case import Clean, DoesNotApplyError, Planting
from planted_kind import Kind

from pantskit.check.findings import Finding, Severity
from pantskit.check.registry import built_in_rules
from pantskit.core.dataset import Dataset
from pantskit.core.labels import STRUCTURES
from pantskit.phantom.cohort import make_cohort
from pantskit.phantom.scans import CohortPlan

KINDS = {k.name: k for k in planted_faults.all_kinds()}
IN_MEMORY = [k for k in KINDS.values() if not k.on_disk]
ON_DISK = [k for k in KINDS.values() if k.on_disk]
IN_COMPANY = ("mask-forgotten-in-one-case", "far-from-all-others", "fields-left-empty")
ALONE = [k for k in IN_MEMORY if k.name not in IN_COMPANY]
PARTS = ("pancreas_head", "pancreas_body", "pancreas_tail")
# The containers and contents of the gland go with it.
INSIDE = {"pancreatic_duct", "pancreatic_lesion"}
ALONG = {"pancreas-eroded": INSIDE, "gland-interrupted": INSIDE}
Plant = Callable[..., Planting]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clean, Clean]:
    """A man with a tumour, and another patient."""
    root = tmp_path_factory.mktemp("clean")
    make_cohort(CohortPlan(2, seed=70010, tumor_rate=1.0, sites=2), root, refine=0, workers=0)
    dataset = Dataset.open(root)
    one, two = (Clean.load(dataset, c.case_id) for c in dataset.cases())
    return one, two


@pytest.fixture
def plant(cases: tuple[Clean, Clean], tmp_path: Path) -> Plant:
    """Plant a kind at a level: in memory, or on disk where the kind is of files."""

    def planted(name: str, level: object) -> Planting:
        case = Planting(*cases, tmp_path / f"{name}-{level}".replace("/", "-").replace(" ", "-"))
        kind = KINDS[name]
        if kind.on_disk:
            kind.into(case, level)
        else:
            kind.plant(case, level)
        return case

    return planted


def before(case: Planting, structure: str) -> np.ndarray:
    mask = case.clean.coded.mask(structure)
    assert mask is not None
    return np.array(mask, bool)


def changed(case: Planting) -> set[str]:
    return {s for s in STRUCTURES if not np.array_equal(before(case, s), case.now(s))}


def files(root: Path) -> dict[str, bytes]:
    """Files of cases, the records of their labels and dataset.json."""
    found = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    kept = ("Image", "Label", "dataset", ".pantskit/records/labels")
    return {name: data for name, data in found.items() if name.startswith(kept)}


def test_there_are_forty_kinds_or_more_and_no_name_twice() -> None:
    assert len(KINDS) >= 40
    assert len(KINDS) == len(planted_faults.all_kinds())
    assert all(len(k.levels) == len(set(map(str, k.levels))) for k in KINDS.values())


def test_each_kind_has_what_a_finding_could_name() -> None:
    for kind in KINDS.values():
        assert kind.structures or kind.words, kind.name
        assert kind.severity in ("info", "warning", "error")
        assert set(kind.structures) <= {*STRUCTURES, "*"}


def test_levels_that_cannot_be_told_are_levels_and_have_a_reason() -> None:
    for kind in KINDS.values():
        assert set(kind.below) <= set(kind.levels), kind.name
        assert all(kind.below.values())
        assert any(kind.told(str(level)) for level in kind.levels), kind.name


def test_each_kind_says_which_rules_ought_to_find_it_and_they_exist() -> None:
    assert set(planted_faults.OUGHT) == set(KINDS)
    known = {rule.name for rule in built_in_rules()}
    assert {name for some in planted_faults.OUGHT.values() for name in some} <= known


def subtlest(kind: Kind, plant: Plant) -> Planting:
    """The last level that applies to a man with a tumour."""
    for level in reversed(kind.levels):
        try:
            return plant(kind.name, level)
        except DoesNotApplyError:
            continue
    pytest.fail(f"{kind.name} does not apply at all")


@pytest.mark.parametrize("kind", ALONE, ids=lambda kind: kind.name)
def test_the_subtlest_level_changes_its_structures_or_the_ct_or_the_row(
    kind: Kind, plant: Plant
) -> None:
    case = subtlest(kind, plant)
    allowed = set(STRUCTURES) if "*" in kind.structures else {*kind.structures}
    masks = changed(case) | case._dropped
    assert masks <= allowed | ALONG.get(kind.name, set())
    other_ct = not np.array_equal(case.ct, case.clean.ct.array)
    assert masks or other_ct or case.row != case.clean.row or case.more_rows


@pytest.mark.parametrize("kind", ON_DISK, ids=lambda kind: kind.name)
def test_the_subtlest_level_changes_files_and_leaves_the_source(kind: Kind, plant: Plant) -> None:
    case = plant(kind.name, kind.levels[-1])
    source = files(case.clean.dataset.root)
    planted = files(case.root)
    mine = {n for n in source if case.clean.case_id in n}
    if kind.name in ("patient-on-both-sides", "scan-twice", "scan-again-with-other-values"):
        assert all(planted[n] == source[n] for n in mine)
        assert len({Path(n).parts[1] for n in planted if n.startswith(("Image", "Label"))}) == 2
    elif kind.name == "tables-disagree":
        with (case.root / "metadata.csv").open(encoding="utf-8") as file:
            one, two = csv.DictReader(file)
        assert {k for k in one if one[k] != two[k]} == {"age_years"}
    else:
        assert any(planted.get(n) != source[n] for n in mine | {"dataset.json"})
    assert files(case.clean.dataset.root) == source


def test_a_copy_without_a_fault_is_the_case(cases: tuple[Clean, Clean], tmp_path: Path) -> None:
    case = Planting(*cases, tmp_path / "copy")
    case.write()
    source, copied = files(case.clean.dataset.root), files(case.root)
    names = [n for n in copied if n != "dataset.json"]
    assert len(names) == 28 + 3  # masks; CT, map and record
    assert all(copied[n] == source[n] for n in names)
    assert case.dataset.metadata == {case.clean.case_id: case.clean.row}


def test_changed_masks_are_written_with_their_map(plant: Plant) -> None:
    case = plant("slices-missing", 2)
    case.write()
    read = Clean.load(Dataset.open(case.root), case.clean.case_id)
    assert np.array_equal(read.coded.mask("liver"), case.now("liver"))
    assert np.array_equal(read.coded.mask("spleen"), case.clean.coded.mask("spleen"))
    stored = np.asanyarray(nib.load(case.map_path).dataobj) == 14
    assert stored.any()
    assert not (stored & ~case.now("liver")).any()


def test_swapped_kidneys_are_each_others(plant: Plant) -> None:
    case = plant("kidneys-swapped", "whole")
    assert np.array_equal(case.now("kidney_left"), before(case, "kidney_right"))
    assert np.array_equal(case.now("kidney_right"), before(case, "kidney_left"))


@pytest.mark.parametrize("count", [5, 2, 1])
def test_so_many_slices_of_the_liver_are_missing_between_others(plant: Plant, count: int) -> None:
    case = plant("slices-missing", count)
    there = case.now("liver").any(axis=(0, 1))
    was = before(case, "liver").any(axis=(0, 1))
    gone = np.flatnonzero(was & ~there)
    assert len(gone) == count
    assert there[gone[0] - 1]
    assert there[gone[-1] + 1]


def test_a_stray_piece_touches_nothing_of_the_spleen(plant: Plant) -> None:
    for radius in (25, 6):
        case = plant("stray-piece", radius)
        was = ndimage.label(before(case, "spleen"), np.ones((3, 3, 3)))[1]
        assert ndimage.label(case.now("spleen"), np.ones((3, 3, 3)))[1] == was + 1


def test_cut_veins_lie_in_two_pieces(plant: Plant) -> None:
    case = plant("veins-cut", 40)
    assert ndimage.label(before(case, "veins"), np.ones((3, 3, 3)))[1] == 1
    assert ndimage.label(case.now("veins"), np.ones((3, 3, 3)))[1] >= 2


@pytest.mark.parametrize("structure", ["celiac_artery", "superior_mesenteric_artery"])
def test_a_detached_artery_is_away_from_the_aorta(plant: Plant, structure: str) -> None:
    name = "celiac-detached" if structure == "celiac_artery" else "sma-detached"
    case = plant(name, KINDS[name].levels[0])
    far = case.distance(before(case, "aorta"))
    assert far[case.now(structure)].min() > 2 * far[before(case, structure)].min()


def test_parts_leave_the_share_of_the_gland_that_was_said(plant: Plant) -> None:
    case = plant("parts-leave-a-gap", 0.1)
    gland = before(case, "pancreas")
    parts = np.any([case.now(p) for p in PARTS], axis=0)
    was = np.any([before(case, p) for p in PARTS], axis=0)
    assert np.array_equal(was, gland)
    assert (gland & ~parts).sum() == pytest.approx(0.1 * gland.sum(), abs=2)


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.7])
def test_a_fraction_of_the_liver_is_left(plant: Plant, fraction: float) -> None:
    case = plant("liver-in-part", fraction)
    assert case.now("liver").sum() == pytest.approx(fraction * before(case, "liver").sum(), abs=1)


def test_the_postcava_on_the_left_is_left_of_the_aorta(plant: Plant) -> None:
    case = plant("postcava-on-the-left", 80)
    column = np.argwhere(before(case, "aorta"))[:, 0].mean()
    assert np.argwhere(before(case, "postcava"))[:, 0].mean() < column
    assert np.argwhere(case.now("postcava"))[:, 0].mean() > column


def test_a_bladder_too_high_is_above_the_kidneys(plant: Plant) -> None:
    case = plant("bladder-too-high", "above the kidneys")
    assert (
        np.argwhere(case.now("bladder"))[:, 2].mean()
        < np.argwhere(before(case, "kidney_left"))[:, 2].min() + 2
    )


def test_a_short_aorta_lacks_its_upper_quarter(plant: Plant) -> None:
    case = plant("aorta-short-above", 0.25)
    was = np.flatnonzero(before(case, "aorta").any(axis=(0, 1)))
    now = np.flatnonzero(case.now("aorta").any(axis=(0, 1)))
    assert now[-1] == was[-1]
    assert now[0] - was[0] == round(0.25 * len(was))


def test_of_a_wall_alone_all_that_is_missing_was_inside(plant: Plant) -> None:
    case = plant("aorta-wall-alone", 1.0)
    was, now = before(case, "aorta"), case.now("aorta")
    assert not (now & ~was).any()
    for i, j, k in np.argwhere(was & ~now):
        assert was[i - 1 : i + 2, j - 1 : j + 2, k].all()


def test_slices_that_are_kept_lie_where_they_lay(plant: Plant) -> None:
    case = plant("scan-of-few-slices", 3)
    case.write()
    read = Clean.load(Dataset.open(case.root), case.clean.case_id)
    start, stop = int(case.slices[0]), int(case.slices[-1]) + 1
    assert read.ct.array.shape[2] == stop - start == 3
    assert np.array_equal(read.ct.array, case.clean.ct.array[:, :, start:stop])
    was = case.clean.ct.geometry.to_world([1, 2, start])
    assert read.ct.geometry.to_world([1, 2, 0]) == pytest.approx(was, abs=1e-3)
    assert np.array_equal(read.coded.mask("liver"), before(case, "liver")[:, :, start:stop])
    assert read.row["shape"] == str(read.ct.array.shape)


def test_a_scan_that_goes_on_below_has_the_femurs_as_long_as_said(plant: Plant) -> None:
    case = plant("femur-too-long", 50)
    case.write()
    read = Clean.load(Dataset.open(case.root), case.clean.case_id)
    assert read.ct.array.shape == case.ct.shape
    assert read.row["shape"] == str(case.ct.shape)
    long = {}
    for side in ("left", "right"):
        slices = np.flatnonzero(case.now(f"femur_{side}").any(axis=(0, 1)))
        long[side] = len(slices) * case.spacing[2]
        assert slices[-1] < case.ct.shape[2] - 3  # the shaft goes on
        at = tuple(np.argwhere(case.now(f"femur_{side}")[:, :, slices[-1]])[0])
        assert (case.ct[(*at, slice(slices[-1], None))] > 100).all()
    assert long["right"] == pytest.approx(140, abs=case.spacing[2])
    assert long["left"] == pytest.approx(190, abs=case.spacing[2])


def test_repeated_slices_are_in_the_ct_and_the_masks_alike(plant: Plant) -> None:
    case = plant("slices-dropped-or-repeated", "every second twice")
    case.write()
    read = Clean.load(Dataset.open(case.root), case.clean.case_id)
    count = case.ct.shape[2]
    taken = [k for k in range(count) for _ in range(1 + k % 2)]
    assert np.array_equal(read.ct.array, case.clean.ct.array[:, :, taken])
    assert np.array_equal(read.coded.mask("liver"), before(case, "liver")[:, :, taken])
    assert read.ct.geometry.spacing == pytest.approx(case.spacing, abs=1e-4)


def test_an_interrupted_gland_is_in_two(plant: Plant) -> None:
    case = plant("gland-interrupted", 15)
    assert ndimage.label(before(case, "pancreas"), np.ones((3, 3, 3)))[1] == 1
    assert ndimage.label(case.now("pancreas"), np.ones((3, 3, 3)))[1] == 2


def test_slices_filled_in_are_copies_and_those_lost_are_gone(plant: Plant) -> None:
    ct = plant("slices-filled-in", 2).ct
    alike = [k for k in range(1, ct.shape[2]) if np.array_equal(ct[:, :, k], ct[:, :, k - 1])]
    was = plant("slices-filled-in", 1).clean.ct.array
    before_it = [
        k for k in range(1, was.shape[2]) if np.array_equal(was[:, :, k], was[:, :, k - 1])
    ]
    assert len(set(alike) - set(before_it)) == 2
    case = plant("slices-lost-from-scan-and-masks", 6)
    assert len(case.slices) == case.ct.shape[2] - 6
    assert sorted(np.unique(np.diff(case.slices))) == [1, 7]


def test_a_kidney_drawn_wide_takes_nothing_of_another_structure(plant: Plant) -> None:
    case = plant("kidney-drawn-wide", 15)
    new = case.now("kidney_right") & ~before(case, "kidney_right")
    assert new.any()
    assert not any((new & before(case, s)).any() for s in STRUCTURES if s != "kidney_right")


def test_masks_drawn_on_thick_slices_are_alike_in_runs_of_five(plant: Plant) -> None:
    liver = plant("drawn-on-thick-slices", 5).now("liver")
    for first in range(0, liver.shape[2] - 4, 5):
        for k in range(1, 5):
            assert np.array_equal(liver[:, :, first], liver[:, :, first + k])


def test_a_vein_that_ends_early_is_as_far_from_its_organ_as_said(plant: Plant) -> None:
    for organ in ("liver", "spleen"):
        case = plant(f"veins-short-of-{organ}", KINDS[f"veins-short-of-{organ}"].levels[0])
        far = case.distance(before(case, organ))
        assert far[case.now("veins")].min() > KINDS[f"veins-short-of-{organ}"].levels[0]
        assert far[before(case, "veins")].min() < 15


def test_what_would_leave_the_scan_is_not_planted(plant: Plant) -> None:
    with pytest.raises(DoesNotApplyError, match="leave the scan"):
        plant("duodenum-away", 10_000)


def test_a_case_is_left_alone_when_there_are_not_enough_others(plant: Plant) -> None:
    with pytest.raises(DoesNotApplyError, match="1 further cases, not 11"):
        plant("mask-forgotten-in-one-case", "colon")


def test_a_distance_asked_for_in_a_box_is_that_of_the_whole_volume(plant: Plant) -> None:
    case = plant("hole", 6)
    liver, spleen = before(case, "liver"), before(case, "spleen")
    whole = case.distance(liver)
    near = case.distance(liver, near=spleen)
    assert np.array_equal(near[spleen], whole[spleen])
    within = case.distance(liver, within_mm=20)
    assert np.array_equal(within <= 20, whole <= 20)
    assert np.array_equal(case.depth(liver), case.distance(~liver))


def outcomes_of(kind: str, found: list[bool]) -> planted_run.Outcomes:
    rows = [
        planted_run.Outcome(kind, "25", f"P{n}", hit, hit, (), (), (), (), "", 0.5)
        for n, hit in enumerate(found)
    ]
    return planted_run.Outcomes(rows)


def test_a_rule_that_misses_a_tenth_misses_the_aim(capsys: pytest.CaptureFixture[str]) -> None:
    assert planted_faults.OUGHT["hole"] == ("hole",)
    for found, met in (([True] * 20, True), ([True] * 18 + [False] * 2, False)):
        figures = planted_report.report([KINDS["hole"]], outcomes_of("hole", found))
        (recall,) = [f for f in figures if "recall of" in f.what]
        assert recall.met is met
        assert planted_aims.report_figures(figures) == int(not met)
    assert "MISSED" in capsys.readouterr().out


def test_a_choice_of_kinds_is_not_judged_by_how_many_there_are() -> None:
    some = planted_report.report([KINDS["hole"]], outcomes_of("hole", [True]))
    assert [f.met for f in some if "kinds" in f.what or "planted for" in f.what] == [None, None]
    every = planted_report.report(list(KINDS.values()), outcomes_of("hole", [True]))
    assert [f.met for f in every if "kinds" in f.what or "planted for" in f.what] == [False, False]


def test_kinds_for_full_scans_exist_and_are_twenty_or_more() -> None:
    assert len(set(planted_faults.FULL)) >= 20
    assert set(planted_faults.FULL) <= set(KINDS)


def test_outcomes_are_kept_and_gone_on_from(tmp_path: Path) -> None:
    row = planted_run.Outcome("hole", "25", "P1", True, True, ("hole",), (), (), (), "", 0.5)
    first = planted_run.Outcomes.kept_in(tmp_path / "kept.json")
    first.add("P1", "hole", [row], skipped=2)
    again = planted_run.Outcomes.kept_in(tmp_path / "kept.json")
    assert again.rows == [row]
    assert again.skipped == {"hole": 2}
    assert again.done == [["P1", "hole"]]


@pytest.mark.parametrize("mm", [40, 10, 2])
def test_a_shifted_origin_is_in_both_forms(plant: Plant, mm: int) -> None:
    case = plant("mask-origin-shifted", mm)
    image, clean = nib.load(case.mask_path("liver")), nib.load(case.mask_path("spleen"))
    for affine in (image.get_sform(), image.get_qform()):
        assert affine[:3, 3] - clean.affine[:3, 3] == pytest.approx([mm, 0, 0], abs=1e-3)
        assert affine[:3, :3] == pytest.approx(clean.affine[:3, :3], abs=1e-5)


def test_headers_say_what_was_planted(plant: Plant) -> None:
    slope = nib.load(plant("mask-slope", 1.0002).mask_path("pancreas"))
    assert slope.dataobj.slope == pytest.approx(1.0002)
    assert float(np.asanyarray(slope.dataobj).max()) == pytest.approx(1.0002)
    unit = nib.load(plant("unit-micron", "CT").ct_path)
    assert unit.header.get_xyzt_units()[0] == "micron"
    bare = nib.load(plant("no-place", "mask").mask_path("spleen")).header
    assert (int(bare["sform_code"]), int(bare["qform_code"])) == (0, 0)
    forms = nib.load(plant("forms-disagree", 5).ct_path)
    assert forms.get_qform()[:3, 3] - forms.get_sform()[:3, 3] == pytest.approx([0, 5, 0], abs=1e-3)
    spacing = nib.load(plant("spacing-lost", "1 mm each way").ct_path)
    assert spacing.header.get_zooms() == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("keep", [0.5, 0.99, -4])
def test_a_file_cut_short_cannot_be_read_to_its_end(plant: Plant, keep: float) -> None:
    with pytest.raises(EOFError):
        gzip.decompress(plant("ct-cut-short", keep).ct_path.read_bytes())


def test_maps_hold_what_was_planted(plant: Plant) -> None:
    def ids(case: Planting) -> np.ndarray:
        return np.asanyarray(nib.load(case.map_path).dataobj)

    assert (ids(plant("map-unknown-id", 20)) == 99).sum() == 20
    lacking = plant("map-lacks-voxels", 1.0)
    spleen = before(lacking, "spleen")
    assert (ids(lacking)[spleen] == 0).mean() > 0.9  # all but what others are painted over
    case = plant("map-numbered-otherwise", "declares nothing")
    now, lesion = ids(case), before(case, "pancreatic_lesion")
    assert set(now[lesion]) == {22}
    assert 28 in now[before(case, "veins")]


def test_metadata_say_what_was_planted(plant: Plant) -> None:
    case = plant("phase-wrong", "least like")
    assert case.fields["phase"] != case.clean.row["phase"]
    assert plant("age-impossible", 900).fields["age_years"] == 900
    assert plant("metadata-without-row", "no row").row is None
    both = plant("patient-on-both-sides", "same patient_id").dataset.metadata.values()
    assert len({row["patient_id"] for row in both}) == 1
    assert {row["split"] for row in both} == {"train", "test"}


def finding(structure: str, message: str = "", rule: str = "some-rule") -> Finding:
    return Finding("Phantom_1", rule, Severity.WARNING, message, structure)


def test_a_finding_counts_when_it_names_what_was_planted_in() -> None:
    kidneys, ct = KINDS["kidneys-swapped"], KINDS["ct-cut-short"]
    assert planted_run.names(finding("kidney_left"), kidneys)
    assert planted_run.names(finding("", "the right kidney lies on the left"), kidneys)
    assert not planted_run.names(finding("liver", "liver and lung overlap"), kidneys)
    assert planted_run.names(finding("", "a/ct.nii.gz: file ends early"), ct)
    assert not planted_run.names(finding("liver", "acct.nii.gzx"), ct)
    assert planted_run.names(finding("aorta"), KINDS["labels-mirrored"])


def test_a_file_that_is_no_image_is_found_and_the_clean_case_is_not(
    cases: tuple[Clean, Clean], tmp_path: Path
) -> None:
    kind = KINDS["mask-is-no-image"]
    case = Planting(*cases, tmp_path / "planted")
    kind.into(case, "web page")
    found = planted_run.outcome(kind, "web page", case, before={})
    assert (found.found, found.severe, found.crash) == (True, True, "")
    told = [(rule, structure) for rule in found.named_by for structure in ("pancreas", "")]
    known = {(case.clean.case_id, *each): 2 for each in told}
    assert not planted_run.outcome(kind, "web page", case, known).found
