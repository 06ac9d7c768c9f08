"""What a phantom case holds: everything in its place, of plausible size and density."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, STRUCTURES
from pantskit.phantom.case import PhantomCase, make_case
from pantskit.phantom.patient import anatomy, draw_patient
from pantskit.phantom.render import Scanner, render
from pantskit.phantom.scans import CohortPlan
from pantskit.phantom.tissues import PARTS, PHASES
from pantskit.phantom.voxelize import reference_volumes_ml, refined, tissue_map


def centre(case: PhantomCase, structure: str) -> NDArray[np.float64]:
    """RAS+ mm."""
    return case.geometry.to_world(np.argwhere(case.mask(structure)).mean(axis=0))


def extent(case: PhantomCase, structure: str, axis: int) -> tuple[float, float]:
    """Lowest and highest world coordinate of a structure's voxels."""
    values = case.geometry.to_world(np.argwhere(case.mask(structure)))[:, axis]
    return float(values.min()), float(values.max())


def test_all_structures_are_there_within_plausible_volumes(tumour_cases: list[PhantomCase]) -> None:
    assert {c.scan.patient.sex for c in tumour_cases} == {"F", "M"}
    for case in tumour_cases:
        for name, structure in STRUCTURES.items():
            ml = case.mask(name).sum() * case.geometry.voxel_volume_mm3 / 1000
            if name == "prostate" and case.scan.patient.sex == "F":
                assert ml == 0
                continue
            low, high = structure.volume_ml
            assert low <= ml <= high, f"{case.scan.case_id} {name}: {ml:.2f} ml"


def test_right_is_right_and_left_is_left(tumour_cases: list[PhantomCase]) -> None:
    for case in tumour_cases:
        middle = centre(case, "aorta")[0] + 10  # RAS+: x grows to the right
        for pair in ("kidney", "lung", "femur", "adrenal_gland"):
            assert centre(case, f"{pair}_right")[0] > middle > centre(case, f"{pair}_left")[0]
        assert centre(case, "liver")[0] > middle > centre(case, "spleen")[0]
        assert centre(case, "gall_bladder")[0] > middle > centre(case, "stomach")[0]
        assert centre(case, "postcava")[0] > centre(case, "aorta")[0] + 15


def test_organs_lie_above_before_and_behind_each_other(tumour_cases: list[PhantomCase]) -> None:
    for case in tumour_cases:
        z = {name: centre(case, name)[2] for name in STRUCTURES if case.mask(name).any()}
        assert z["lung_left"] > z["liver"] > z["kidney_right"] > z["bladder"] > z["femur_left"]
        for side in ("left", "right"):
            kidney_top = extent(case, f"kidney_{side}", 2)[1]
            assert abs(z[f"adrenal_gland_{side}"] - kidney_top) < 35
            assert z[f"adrenal_gland_{side}"] > z[f"kidney_{side}"] + 25
        assert z["celiac_artery"] > extent(case, "superior_mesenteric_artery", 2)[1] - 12
        assert z["gall_bladder"] < z["liver"]
        assert centre(case, "pancreas")[1] > centre(case, "aorta")[1] + 10  # in front of it
        if case.scan.patient.sex == "M":
            assert z["prostate"] < z["bladder"]


def test_head_body_and_tail_follow_the_vessels(tumour_cases: list[PhantomCase]) -> None:
    for case in tumour_cases:
        x = {part: centre(case, f"pancreas_{part}")[0] for part in PARTS}
        assert x["head"] > x["body"] > x["tail"]
        sma_left = extent(case, "superior_mesenteric_artery", 0)[0]
        aorta_left = extent(case, "aorta", 0)[0]
        # a band of 10 mm and a voxel around the annotation standard's borders
        slack = 10 + case.geometry.spacing[0]
        assert extent(case, "pancreas_head", 0)[0] > sma_left - slack
        assert extent(case, "pancreas_body", 0)[1] < sma_left + slack + 4
        assert extent(case, "pancreas_body", 0)[0] > aorta_left - slack
        assert extent(case, "pancreas_tail", 0)[1] < aorta_left + slack


def test_parts_make_the_pancreas_and_lesion_and_duct_lie_in_it(
    tumour_cases: list[PhantomCase],
) -> None:
    for case in tumour_cases:
        parts = [case.mask(f"pancreas_{part}") for part in PARTS]
        whole = case.mask("pancreas")
        assert (np.sum(parts, axis=0) == whole).all()  # no overlap, nothing left
        assert not (case.mask(LESION) & ~whole).any()
        assert not (case.mask("pancreatic_duct") & ~whole).any()


def test_tumour_is_where_and_what_the_plan_says(tumour_cases: list[PhantomCase]) -> None:
    for case in tumour_cases:
        tumour = case.anatomy.tumour
        assert tumour is not None
        lesion = case.mask(LESION)
        own = lesion & case.mask(f"pancreas_{tumour.plan.part}")
        assert own.sum() > 0.5 * lesion.sum()
        offset = np.linalg.norm(centre(case, LESION) - np.array(tumour.shape.centre))
        assert offset < 1.5  # a third of a voxel


def test_lesion_volume_approaches_the_ellipsoids_as_voxels_shrink(
    tumour_cases: list[PhantomCase],
) -> None:
    case = max(tumour_cases, key=lambda c: c.anatomy.tumour.volume_mm3)
    tumour = case.anatomy.tumour
    assert tumour is not None
    closed = 4 / 3 * np.pi * np.prod(tumour.plan.radii)
    assert tumour.volume_mm3 == pytest.approx(closed)
    low = np.array(tumour.shape.centre) - 1.2 * max(tumour.plan.radii)
    for voxel_mm, tolerance in ((4.0, 0.12), (1.0, 0.01)):
        count = int(np.ceil(2.4 * max(tumour.plan.radii) / voxel_mm)) + 1
        grid = Geometry.from_spacing((count,) * 3, (voxel_mm,) * 3, orientation="RAS", origin=low)
        lesion = replace(case, tissues=tissue_map(case.anatomy, grid)).mask(LESION)
        assert lesion.sum() * voxel_mm**3 == pytest.approx(closed, rel=tolerance)


def test_sampled_volumes_agree_between_two_grids(tumour_cases: list[PhantomCase]) -> None:
    case = tumour_cases[0]
    coarse = reference_volumes_ml(case.anatomy, case.geometry, refine=1)
    fine = reference_volumes_ml(case.anatomy, case.geometry, refine=2)
    for name in ("liver", "spleen", "aorta", "kidney_left", "pancreas"):
        assert coarse[name] == pytest.approx(fine[name], rel=0.03)
    assert refined(case.geometry, 3).voxel_volume_mm3 * 27 == pytest.approx(
        case.geometry.voxel_volume_mm3
    )


def test_dilated_duct_is_wide_upstream_of_the_tumour_only() -> None:
    patient = draw_patient((1, 2), "p", has_tumour=True)
    assert patient.tumour is not None
    plan = replace(patient.tumour, part="body", dilated_duct_mm=4.0, radii=(9.0, 9.0, 9.0))
    grid = Geometry.from_spacing(
        (130, 85, 85), (1.5, 1.5, 1.5), orientation="RAS", origin=(-110, -50, -90)
    )
    volumes = {}
    for name, tumour in (("rest", replace(plan, dilated_duct_mm=None)), ("dilated", plan)):
        body = anatomy(replace(patient, tumour=tumour, duct_mm=1.0))
        tissues = tissue_map(body, grid)
        volumes[name] = {part: _duct(tissues, part) for part in PARTS}
    assert volumes["dilated"]["tail"] > 6 * volumes["rest"]["tail"]
    assert volumes["dilated"]["head"] < 1.5 * volumes["rest"]["head"] + 12


def _duct(tissues: NDArray[np.uint8], part: str) -> int:
    from pantskit.phantom.tissues import TISSUE_ID

    return int((tissues == TISSUE_ID[f"duct_{part}"]).sum())


@pytest.fixture(scope="module")
def phases() -> dict[str, dict[str, float]]:
    """Mean HU of each structure of one patient, by phase, inside by a voxel where it is thick."""
    case = make_case(CohortPlan(cases=1, seed=11, tumor_rate=1.0), 0)
    means: dict[str, dict[str, float]] = {}
    for phase in PHASES:
        hu = render(
            case.tissues,
            case.geometry.spacing,
            phase,
            np.random.default_rng(0),
            scanner=Scanner((0.45, 0.45, 0.25), noise_hu=8.0),
        )
        present = [name for name in STRUCTURES if case.mask(name).any()]
        means[phase] = {name: float(hu[case.mask(name)].mean()) for name in present}
        lesion = binary_erosion(case.mask(LESION))
        gland = binary_erosion(case.mask("pancreas") & ~case.mask("pancreatic_duct")) & ~lesion
        means[phase]["core of the lesion"] = float(hu[lesion].mean())
        means[phase]["core of the gland"] = float(hu[gland & ~case.mask(LESION)].mean())
    return means


def test_means_lie_in_the_plausible_ranges(phases: dict[str, dict[str, float]]) -> None:
    for phase, key in (("non_contrast", "hu_non_contrast"), ("portal_venous", "hu_portal_venous")):
        for name, mean in phases[phase].items():
            if name not in STRUCTURES:
                continue
            low, high = getattr(STRUCTURES[name], key)
            assert low <= mean <= high, f"{phase} {name}: {mean:.0f} HU"


def test_phases_light_up_what_they_should(phases: dict[str, dict[str, float]]) -> None:
    plain, arterial, portal, delayed = (phases[p] for p in PHASES)
    assert 180 <= arterial["aorta"] <= 500
    assert 180 <= arterial["celiac_artery"] <= 500
    assert arterial["aorta"] > portal["aorta"] > delayed["aorta"] > plain["aorta"]
    assert portal["veins"] > arterial["veins"]
    assert portal["liver"] > arterial["liver"]
    assert delayed["bladder"] > 100 > portal["bladder"]
    for phase in (arterial, portal):
        assert phase["core of the gland"] - phase["core of the lesion"] > 15
