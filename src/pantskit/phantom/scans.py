"""Which patient is scanned where, when and how: all from (seed, case number) alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pantskit.core.errors import ConfigError
from pantskit.core.geometry import Geometry
from pantskit.phantom.patient import Anatomy, Patient, draw_patient
from pantskit.phantom.render import Scanner
from pantskit.phantom.sites import Site, sites_in_use
from pantskit.phantom.tissues import PHASES

# Share of odd cases that are a second scan of the patient before them.
SECOND_SCAN_RATE = 0.25
# z of the field of view in atlas mm: below the hips to above the diaphragm.
FIELD_MM = (-312.0, 100.0)


@dataclass(frozen=True)
class CohortPlan:
    """Which cases to make.

    Attributes:
        cases: scans.
        seed: of everything.
        size: "small" or "full".
        tumor_rate: share of patients with a tumour.
        sites: hospitals.
        test_site: the site that makes up the test split; None: the last one, where there are
            several.
        test_fraction: of the patients; takes the place of `test_site`.
    """

    cases: int
    seed: int
    size: str = "small"
    tumor_rate: float = 0.11
    sites: int = 3
    test_site: str | None = None
    test_fraction: float | None = None

    def require_usable(self) -> None:
        """Refuse what cannot be made.

        Raises:
            ConfigError: If a setting makes no sense.
        """
        names = [site.name for site in sites_in_use(self.sites)]
        if self.cases < 1:
            raise ConfigError(f"--cases must be 1 or more, not {self.cases}")
        if self.seed < 0:
            raise ConfigError(f"--seed must be 0 or more, not {self.seed}")
        if self.size not in ("small", "full"):
            raise ConfigError(f"--size is small or full, not {self.size!r}")
        if not 0 <= self.tumor_rate <= 1:
            raise ConfigError(f"--tumor-rate must be 0 to 1, not {self.tumor_rate}")
        if self.test_fraction is not None and not 0 <= self.test_fraction <= 1:
            raise ConfigError(f"--test-fraction must be 0 to 1, not {self.test_fraction}")
        if self.test_site is not None and self.test_site not in names:
            raise ConfigError(f"--test-site {self.test_site!r} is not one of {', '.join(names)}")
        if self.test_site is not None and self.test_fraction is not None:
            raise ConfigError("give --test-site or --test-fraction, not both")


@dataclass(frozen=True)
class Scan:
    """One CT to make.

    Attributes:
        case_id: `Phantom_00000007`.
        number: of the case, from 0.
        patient: who.
        site: where.
        split: "train" or "test".
        phase: contrast phase.
        visit: 0, or 1 for a patient's second scan.
        one_of_several: the patient has two scans, where the cohort is long enough for both.
        study_year: of the scan.
        seed: of everything random in this scan that is not anatomy.
    """

    case_id: str
    number: int
    patient: Patient
    site: Site
    split: str
    phase: str
    visit: int
    one_of_several: bool
    study_year: int
    seed: tuple[int, ...]

    def rng(self, stream: int) -> np.random.Generator:
        """The generator of one purpose of this scan."""
        return np.random.default_rng((*self.seed, stream))


def plan_scan(plan: CohortPlan, number: int) -> Scan:
    """The scan of one case number, whatever the number of cases."""
    first = _first_scan(plan, number)
    sites = sites_in_use(plan.sites)
    site = sites[first % len(sites)]
    patient = draw_patient(
        (plan.seed, first, 11),
        f"P{plan.seed:03d}-{first:06d}",
        has_tumour=_has_tumour(plan, first // len(sites), first % len(sites)),
    )
    rng = np.random.default_rng((plan.seed, first, 12))
    order = rng.permutation(len(PHASES))
    weights = np.array(site.phases)
    chosen = int(rng.choice(len(PHASES), p=weights / weights.sum()))
    visit = number - first
    if visit:  # a second scan is of another phase
        chosen = int(next(n for n in order if n != chosen and site.phases[int(n)] > 0))
    year = int(rng.integers(2008, 2022)) + visit * int(rng.integers(0, 2))
    return Scan(
        case_id=f"Phantom_{number + 1:08d}",
        number=number,
        patient=patient,
        site=site,
        split=_split(plan, site, first),
        phase=PHASES[chosen],
        visit=visit,
        one_of_several=_first_scan(plan, first + 1) == first,
        study_year=year,
        seed=(plan.seed, number, 13),
    )


def _first_scan(plan: CohortPlan, number: int) -> int:
    """The case number of the patient's first scan."""
    if number % 2 == 0:
        return number
    again = np.random.default_rng((plan.seed, number, 14)).random() < SECOND_SCAN_RATE
    return number - 1 if again else number


def _has_tumour(plan: CohortPlan, nth: int, site: int) -> bool:
    """Whether a site's nth patient has a tumour: evenly spread, so that small cohorts match too."""
    start = float(np.random.default_rng((plan.seed, site, 15)).random())
    rate = plan.tumor_rate
    return int(np.floor((nth + 1) * rate + start)) > int(np.floor(nth * rate + start))


def _split(plan: CohortPlan, site: Site, first: int) -> str:
    if plan.test_fraction is not None:
        draw = np.random.default_rng((plan.seed, first, 16)).random()
        return "test" if draw < plan.test_fraction else "train"
    sites = sites_in_use(plan.sites)
    test_site = plan.test_site or (sites[-1].name if len(sites) > 1 else None)
    return "test" if site.name == test_site else "train"


def scan_geometry(scan: Scan, anatomy: Anatomy, size: str) -> tuple[Geometry, Anatomy]:
    """The grid of a scan, in the order its slices are acquired, and the patient on the table.

    i goes along a row of the slice (toward the patient's left), j down its columns (toward the
    back), both reversed at a site that scans prone.

    Returns:
        The grid, and the anatomy moved to where the patient lies in the scanner's world.
    """
    rng = scan.rng(1)
    grid = scan.site.grid(size)
    tall = scan.patient.size[2]
    bottom, top = FIELD_MM[0] * tall, FIELD_MM[1] * tall
    slices = grid.slices or int(np.ceil((top - bottom) / grid.slice_mm))
    bottom += rng.uniform(-4, 4) - max(0.0, slices * grid.slice_mm - (top - bottom)) / 2
    need = max(
        2 * anatomy.half_width_mm / grid.columns, 2 * (anatomy.half_depth_mm + 22) / grid.rows
    )
    pixel = round(need * float(rng.uniform(1.03, 1.1)), 3)
    origin = np.array([rng.uniform(-8, 8), rng.uniform(120, 160), rng.uniform(-1100, -600)])
    sign = -1.0 if scan.site.prone else 1.0
    turn = np.deg2rad(scan.site.turn_degrees) * float(rng.uniform(0.6, 1.4))
    # RAS+: left is -x, back is -y
    row = sign * np.array([-np.cos(turn), -np.sin(turn), 0.0])
    column = sign * np.array([np.sin(turn), -np.cos(turn), 0.0])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * pixel, column * pixel
    affine[2, 2] = -grid.slice_mm if scan.site.head_first else grid.slice_mm
    middle = origin + np.array([rng.uniform(-5, 5), rng.uniform(-5, 5), 0.0])
    corner = middle - affine[:3, 0] * (grid.columns - 1) / 2 - affine[:3, 1] * (grid.rows - 1) / 2
    low = origin[2] + bottom
    corner[2] = low + (slices - 1) * grid.slice_mm if scan.site.head_first else low
    affine[:3, 3] = np.round(corner, 3)
    return (
        Geometry((grid.columns, grid.rows, slices), affine),
        anatomy.moved_to(origin),
    )


def scanner_for(site: Site, size: str) -> Scanner:
    """The site's scanner on its grid: a small grid is as sharp as its voxels, and less noisy."""
    if size == "full":
        return site.scanner
    blur = tuple(0.62 * sigma for sigma in site.scanner.blur_voxels)
    return replace(
        site.scanner,
        blur_voxels=(blur[0], blur[1], blur[2]),
        noise_hu=0.7 * site.scanner.noise_hu,
        grain_voxels=0.6 * site.scanner.grain_voxels,
    )
