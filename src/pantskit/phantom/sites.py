"""Hospitals that differ: grids, scanners, how slices lie in space, and how they name things.

All of them are made up. What is odd at each is odd in real deliveries too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pantskit.core.errors import ConfigError
from pantskit.core.labels import STRUCTURES
from pantskit.phantom.render import Scanner

_RELEASE_NAMES = {name: name for name in STRUCTURES}


@dataclass(frozen=True)
class Grid:
    """Voxels of a scan.

    Attributes:
        columns, rows: of a slice.
        slice_mm: between slices.
        slices: None: as many as the patient's trunk needs.
    """

    columns: int
    rows: int
    slice_mm: float
    slices: int | None = None


@dataclass(frozen=True)
class Site:
    """One made-up hospital.

    Attributes:
        name: in metadata and folder names.
        institution: as the DICOM headers say, to be removed by ingest.
        manufacturer, model: of the scanner.
        nationality: country code.
        small, full: grids of the two sizes.
        scanner: blur and noise at full size.
        head_first: slices are stored from the head down.
        prone: patients lie on their belly.
        turn_degrees: rotation of the slices in their plane against the patient axes.
        transfer_syntax: "explicit" (little endian) or "rle".
        file_name: pattern of slice files, from {n} (number) and {uid}.
        mask_orientation: nibabel codes of its mask files.
        mask_names: structure to file name.
        kvp: tube voltage.
        phases: weights of non-contrast, arterial, portal venous, delayed.
    """

    name: str
    institution: str
    manufacturer: str
    model: str
    nationality: str
    small: Grid
    full: Grid
    scanner: Scanner
    head_first: bool = True
    prone: bool = False
    turn_degrees: float = 0.0
    transfer_syntax: str = "explicit"
    file_name: str = "IM{n:04d}.dcm"
    mask_orientation: str = "LPS"
    mask_names: Mapping[str, str] = field(default_factory=lambda: _RELEASE_NAMES)
    kvp: int = 120
    phases: tuple[float, float, float, float] = (0.2, 0.25, 0.45, 0.1)

    def grid(self, size: str) -> Grid:
        """The grid of `"small"` or `"full"`."""
        return self.full if size == "full" else self.small


def _names(**own: str) -> dict[str, str]:
    return _RELEASE_NAMES | own


_NORTHFIELD = _names(
    liver="Liver",
    spleen="Spleen",
    stomach="Stomach",
    gall_bladder="gallbladder",
    postcava="IVC",
    celiac_artery="celiac_trunk",
    superior_mesenteric_artery="SMA",
    veins="portal_vein_and_splenic_vein",
    kidney_left="left_kidney",
    kidney_right="right_kidney",
    adrenal_gland_left="left_adrenal_gland",
    adrenal_gland_right="right_adrenal_gland",
    bladder="urinary_bladder",
    pancreatic_lesion="pancreatic_tumor",
    common_bile_duct="CBD",
)
_SUEDSTADT = _names(
    liver="Leber",
    spleen="Milz",
    stomach="Magen",
    gall_bladder="Gallenblase",
    postcava="vena_cava_inferior",
    kidney_left="Niere links",
    kidney_right="Niere rechts",
    adrenal_gland_left="Nebenniere links",
    adrenal_gland_right="Nebenniere rechts",
    bladder="Harnblase",
    prostate="Prostata",
    pancreas="Pankreas",
    pancreatic_lesion="Pankreastumor",
    common_bile_duct="Ductus choledochus",
    pancreatic_duct="Wirsung",
)
_HARBOUR = _names(
    gall_bladder="GB",
    postcava="vena_cava",
    kidney_left="Left Kidney",
    kidney_right="Right Kidney",
    lung_left="left lung",
    lung_right="right lung",
    femur_left="left_femur",
    femur_right="right_femur",
    colon="large_bowel",
    pancreas_head="head_of_pancreas",
    pancreas_body="body_of_pancreas",
    pancreas_tail="tail_of_pancreas",
    pancreatic_duct="MPD",
    pancreatic_lesion="PDAC",
    celiac_artery="celiac_aa",
    superior_mesenteric_artery="superior_mesenteric_aa",
)

SITES: tuple[Site, ...] = (
    Site(
        name="northfield",
        institution="Northfield General Hospital",
        manufacturer="SIEMENS",
        model="SOMATOM Definition Flash",
        nationality="US",
        small=Grid(96, 84, 5.0),
        full=Grid(512, 512, 1.5, 300),
        scanner=Scanner((0.75, 0.75, 0.4), noise_hu=13.0, grain_voxels=0.9),
        mask_names=_NORTHFIELD,
    ),
    Site(
        name="suedstadt",
        institution="Klinikum Suedstadt",
        manufacturer="Philips",
        model="Brilliance 64",
        nationality="DE",
        small=Grid(92, 80, 5.2),
        full=Grid(512, 512, 1.4, 300),
        scanner=Scanner((0.9, 0.9, 0.6), noise_hu=9.0, grain_voxels=1.2),
        head_first=False,
        transfer_syntax="rle",
        file_name="{uid}",
        mask_orientation="RAS",
        mask_names=_SUEDSTADT,
        phases=(0.15, 0.35, 0.45, 0.05),
    ),
    Site(
        name="harbour",
        institution="Harbour University Hospital",
        manufacturer="GE MEDICAL SYSTEMS",
        model="LightSpeed VCT",
        nationality="PL",
        small=Grid(100, 84, 4.8),
        full=Grid(512, 512, 1.45, 300),
        scanner=Scanner((0.65, 0.65, 0.3), noise_hu=17.0, grain_voxels=0.7),
        turn_degrees=4.0,
        file_name="CT.{uid}.img",
        mask_orientation="LAS",
        mask_names=_HARBOUR,
        kvp=100,
    ),
    Site(
        name="lakeside",
        institution="Lakeside Imaging Centre",
        manufacturer="TOSHIBA",
        model="Aquilion ONE",
        nationality="JP",
        small=Grid(96, 80, 5.0),
        full=Grid(512, 512, 1.5, 300),
        scanner=Scanner((0.7, 0.7, 0.4), noise_hu=15.0, grain_voxels=0.8),
        prone=True,
        head_first=False,
        file_name="I{n}",
        mask_orientation="RPI",
        phases=(0.7, 0.0, 0.3, 0.0),
    ),
)


def sites_in_use(count: int) -> tuple[Site, ...]:
    """The first `count` sites.

    Raises:
        ConfigError: If there are not that many.
    """
    if not 1 <= count <= len(SITES):
        raise ConfigError(f"--sites must be 1 to {len(SITES)}, not {count}")
    return SITES[:count]
