"""A synthetic patient: who it is, and the anatomy that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pantskit.phantom import body, organs
from pantskit.phantom import pancreas as gland
from pantskit.phantom.fields import Float64, Placement
from pantskit.phantom.layers import Layer, Relabel
from pantskit.phantom.vary import Vary


@dataclass(frozen=True)
class Patient:
    """Who a synthetic patient is.

    Attributes:
        patient_id: pseudonym of the person; several scans share it.
        seed: of everything random in this person's anatomy.
        sex: "M" or "F".
        age_years: at the first scan.
        size: over the atlas, along x, y, z.
        fat_mm: thickness of the fat at the side of the belly.
        duct_mm: radius of the pancreatic duct in the head where nothing blocks it.
        tumour: what tumour there is, or None.
    """

    patient_id: str
    seed: tuple[int, ...]
    sex: str
    age_years: int
    size: tuple[float, float, float]
    fat_mm: float
    duct_mm: float
    tumour: gland.TumourPlan | None


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A patient's anatomy, exact at any resolution.

    Attributes:
        layers: painted first to last.
        placement: world to atlas.
        tumour: where it lies in the world, or None.
        tumour_at: fraction of the gland's length from head to tail, or None.
        half_width_mm, half_depth_mm: of the body at the waist, world mm.
    """

    layers: tuple[Layer | Relabel, ...]
    placement: Placement
    tumour: gland.Tumour | None
    tumour_at: float | None
    half_width_mm: float
    half_depth_mm: float

    def moved_to(self, origin: Float64) -> Anatomy:
        """The same patient elsewhere.

        Args:
            origin: RAS+ mm of the atlas' origin.
        """
        shift = np.asarray(origin, dtype=np.float64) - self.placement.origin
        tumour, layers = self.tumour, self.layers
        if tumour is not None:
            tumour = tumour.moved_by(shift)
            moved = iter(gland.lesion(tumour))
            layers = tuple(
                next(moved) if isinstance(item, Layer) and item.world else item for item in layers
            )
        return replace(
            self, layers=layers, placement=self.placement.moved_to(origin), tumour=tumour
        )


def draw_patient(seed: tuple[int, ...], patient_id: str, *, has_tumour: bool) -> Patient:
    """A patient drawn from a seed alone."""
    rng = np.random.default_rng(seed)
    sex = "M" if rng.random() < 0.55 else "F"
    tall = (1.0 if sex == "M" else 0.95) * float(np.exp(0.025 * np.clip(rng.normal(), -2, 2)))
    wide = tall**0.7 * float(np.exp(0.025 * np.clip(rng.normal(), -2, 2)))
    deep = wide * float(np.exp(0.02 * np.clip(rng.normal(), -2, 2)))
    return Patient(
        patient_id=patient_id,
        seed=seed,
        sex=sex,
        age_years=int(np.clip(rng.normal(61, 13), 22, 92)),
        size=(wide, deep, tall),
        fat_mm=float(np.clip(rng.gamma(4.0, 4.5), 5, 36)),
        duct_mm=float(rng.uniform(0.9, 1.3) if rng.random() < 0.75 else rng.uniform(1.6, 2.4)),
        tumour=gland.plan_tumour(rng) if has_tumour else None,
    )


def anatomy(patient: Patient, *, prone: bool = False) -> Anatomy:
    """The anatomy of a patient, with the atlas' origin at the world's.

    Each organ draws from its own stream, so that one more draw in one organ leaves all others
    as they were.
    """
    streams = iter(np.random.SeedSequence((*patient.seed, 1)).spawn(20))

    def stream() -> Vary:
        return Vary(np.random.default_rng(next(streams)))

    placement = Placement.random(stream().rng, np.array(patient.size), rms_mm=2.6)
    organ = gland.gland(stream())
    tumour, at = None, 0.0
    tumour_stream = stream()
    if patient.tumour is not None:
        tumour, at = gland.place_tumour(patient.tumour, organ, placement, tumour_stream.rng)
    blocked = bool(patient.tumour and patient.tumour.blocks_bile)
    outline = body.muscle_wall()
    width, front, back = outline.at(-60)
    back_y = outline.at(40)[2] - 0.75 * patient.fat_mm
    layers: list[Layer | Relabel] = [
        *body.envelope(patient.fat_mm, stream()),
        *(() if prone else (body.table(back_y),)),
        *body.lungs(stream()),
        *organs.bowel(stream()),
        *organs.stomach(stream(), prone=prone),
        *organs.colon(stream()),
        *organs.spleen(stream()),
        *organs.liver(stream()),
        *organs.gall_bladder(stream(), swollen=blocked),
        *organs.kidneys(stream()),
        *organs.pelvis_organs(stream(), patient.sex),
        *body.skeleton(stream()),
        *organs.great_vessels(stream()),
        *organs.duodenum(stream()),
        *organs.adrenals(stream()),
        *gland.pancreas(organ, stream()),
        *gland.vessels(stream()),
        *gland.ducts(organ, stream(), tumour, at, patient.duct_mm),
        *gland.lesion(tumour),
        *gland.parts(),
    ]
    return Anatomy(
        layers=tuple(layers),
        placement=placement,
        tumour=tumour,
        tumour_at=at if tumour else None,
        half_width_mm=(width + patient.fat_mm + 20) * patient.size[0],
        half_depth_mm=((front - back) / 2 + 0.85 * patient.fat_mm) * patient.size[1],
    )
