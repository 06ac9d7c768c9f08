"""One synthetic scan in memory, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.geometry import Geometry
from pantskit.core.labels import STRUCTURES
from pantskit.core.volume import Volume
from pantskit.phantom.patient import Anatomy, anatomy
from pantskit.phantom.render import render
from pantskit.phantom.scans import CohortPlan, Scan, plan_scan, scan_geometry, scanner_for
from pantskit.phantom.tissues import PARTS, PHASES, structure_mask
from pantskit.phantom.voxelize import drawn_volumes_ml, reference_volumes_ml, tissue_map

# Thin tubes are drawn at least this share of a pixel wide (radius), as readers draw them.
THIN_PIXELS = 0.6


@dataclass(frozen=True)
class PhantomCase:
    """One made case, in memory.

    Attributes:
        scan: what was asked for.
        ct: int16 HU on the acquired grid.
        tissues: (i, j, k) tissue ids on the same grid.
        anatomy: continuous truth, in the same world.
    """

    scan: Scan
    ct: Volume
    tissues: NDArray[np.uint8]
    anatomy: Anatomy

    @property
    def geometry(self) -> Geometry:
        """The acquired grid."""
        return self.ct.geometry

    def mask(self, structure: str) -> NDArray[np.bool_]:
        """(i, j, k) mask of one of the 28 structures."""
        return structure_mask(self.tissues, structure)


def make_case(plan: CohortPlan, number: int) -> PhantomCase:
    """One synthetic scan, decided by (plan.seed, number) and the plan's settings alone.

    Args:
        plan: of the cohort.
        number: of the case, from 0.
    """
    scan = plan_scan(plan, number)
    resting = anatomy(scan.patient, prone=scan.site.prone)
    geometry, body = scan_geometry(scan, resting, plan.size)
    tissues = tissue_map(body, geometry, thin_mm=THIN_PIXELS * geometry.spacing[0])
    hu = render(
        tissues,
        geometry.spacing,
        scan.phase,
        scan.rng(2),
        scanner=scanner_for(scan.site, plan.size),
        shifts=lesion_shifts(scan),
    )
    return PhantomCase(scan, Volume(hu, geometry), tissues, body)


def lesion_shifts(scan: Scan) -> dict[str, float]:
    """HU by which this patient's tumour differs from the usual one: fluid, or a little denser."""
    if scan.patient.tumour is None:
        return {}
    rng = np.random.default_rng((*scan.patient.seed, 2))
    solid = float(np.clip(rng.normal(), -2, 2) * 5)
    cystic = (-24.0, -42.0, -46.0, -52.0)[PHASES.index(scan.phase)]
    shift = solid + (cystic if scan.patient.tumour.kind == "cystic" else 0.0)
    return {f"lesion_{part}": shift for part in PARTS}


def truth_of(case: PhantomCase, refine: int) -> dict[str, Any]:
    """What is known of a case, exactly or by fine sampling; JSON's own types.

    Args:
        case: the case.
        refine: samples along each axis of a voxel for the structures' volumes; 1: the voxels as
            drawn, which on a full grid are fine enough; 0: no volumes but the tumour's.
    """
    scan, tumour = case.scan, case.anatomy.tumour
    truth: dict[str, Any] = {
        "case_id": scan.case_id,
        "patient_id": scan.patient.patient_id,
        "site": scan.site.name,
        "split": scan.split,
        "phase": scan.phase,
        "sex": scan.patient.sex,
        "age_years": scan.patient.age_years + scan.visit,
        "has_tumor": tumour is not None,
        "tumor": None,
    }
    if tumour is not None:
        truth["tumor"] = {
            "part": tumour.plan.part,
            "kind": tumour.plan.kind,
            "centre_ras_mm": [round(v, 3) for v in tumour.shape.centre],
            "radii_mm": [round(v, 6) for v in tumour.shape.radii],
            "diameter_mm": round(tumour.diameter_mm, 3),
            "volume_ml": round(tumour.volume_mm3 / 1000, 6),
            "volume_basis": "closed form of the ellipsoid",
            "duct_dilated": tumour.plan.dilated_duct_mm is not None,
            "bile_duct_dilated": tumour.plan.blocks_bile,
        }
    if refine == 0:
        return truth
    if refine == 1:
        volumes = drawn_volumes_ml(case.tissues, case.geometry)
        truth["volumes_basis"] = "voxels as drawn"
    else:
        volumes = reference_volumes_ml(case.anatomy, case.geometry, refine=refine)
        truth["volumes_basis"] = (
            f"continuous shapes within the field of view, {refine}^3 samples a voxel"
        )
    truth["volumes_ml"] = {s: round(volumes.get(s, 0.0), 4) for s in STRUCTURES}
    return truth


def metadata_row(case: PhantomCase, stored: Geometry) -> dict[str, Any]:
    """The case's row of the metadata table."""
    scan = case.scan
    return {
        "case_id": scan.case_id,
        "patient_id": scan.patient.patient_id,
        "split": scan.split,
        "shape": str(tuple(stored.shape)),
        "spacing": str(tuple(round(s, 4) for s in stored.spacing)),
        "slice_thickness_mm": round(stored.spacing[2], 4),
        "phase": scan.phase,
        "sex": scan.patient.sex,
        "age_years": scan.patient.age_years + scan.visit,
        "manufacturer": scan.site.manufacturer,
        "model": scan.site.model,
        "kvp": scan.site.kvp,
        "study_type": "abdomen",
        "site": scan.site.name,
        "nationality": scan.site.nationality,
        "study_year": scan.study_year,
        "lesions": int(case.anatomy.tumour is not None),
    }
