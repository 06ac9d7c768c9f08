"""What voxels are made of: each tissue's Hounsfield units by phase and the structures it is in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pantskit.core.codedmasks import CodedMasks
from pantskit.core.labels import STRUCTURES
from pantskit.phantom.fields import Float32

PHASES = ("non_contrast", "arterial", "portal_venous", "delayed")


@dataclass(frozen=True)
class Tissue:
    """What a voxel can be made of.

    Attributes:
        name: of the tissue.
        structures: masks that hold it, of the 28.
        hu: mean in each of `PHASES`.
        texture: standard deviation of its own smooth unevenness, HU.
    """

    name: str
    structures: tuple[str, ...]
    hu: tuple[float, float, float, float]
    texture: float


# name | structures | HU non-contrast, arterial, portal venous, delayed | texture. Chosen inside the
# plausible ranges of core/data/structures.toml; what those ranges do not name is judgement.
_TABLE = """
air                 |                            | -1000 -1000 -1000 -1000 | 0
table               |                            |  -350  -350  -350  -350 | 0
skin                |                            |    25    30    40    40 | 5
fat                 |                            |  -105  -105  -104  -104 | 7
visceral_fat        |                            |   -98   -98   -96   -96 | 9
muscle              |                            |    52    58    64    63 | 9
bone_cortex         |                            |   430   435   440   435 | 45
bone_marrow         |                            |   165   170   175   172 | 35
rib_bone            |                            |   330   335   340   335 | 35
cartilage           |                            |    95    97   100   100 | 12
disc                |                            |    78    80    84    84 | 6
spinal_canal        |                            |    22    24    28    28 | 5
diaphragm           |                            |    50    58    64    63 | 6
heart_muscle        |                            |    45   105   112    95 | 6
heart_blood         |                            |    42   290   150   110 | 6
oesophagus          |                            |    38    55    70    66 | 8
bowel_wall          |                            |    36    82    92    78 | 12
bowel_lumen         |                            |    14    16    20    22 | 16
bowel_gas           |                            |  -850  -850  -850  -850 | 0
artery              |                            |    42   320   158   112 | 3
vein                |                            |    42    70   165   114 | 4
renal_pelvis        |                            |     2     4    14   330 | 4
uterus              |                            |    42    78   108    96 | 10
lung_left           | lung_left                  |  -845  -842  -838  -840 | 42
lung_right          | lung_right                 |  -845  -842  -838  -840 | 42
lung_vessel_left    | lung_left                  |    35    90   110    80 | 20
lung_vessel_right   | lung_right                 |    35    90   110    80 | 20
liver               | liver                      |    57    68   112    96 | 6
liver_vein          | liver                      |    41    74   158   112 | 4
spleen              | spleen                     |    48   128   122    96 | 5
stomach_wall        | stomach                    |    38    82    94    80 | 8
stomach_lumen       | stomach                    |    22    22    24    24 | 16
stomach_gas         | stomach                    |  -900  -900  -900  -900 | 0
duodenum_wall       | duodenum                   |    36    84    92    78 | 8
duodenum_lumen      | duodenum                   |    16    18    22    24 | 14
colon_wall          | colon                      |    34    66    80    72 | 8
colon_stool         | colon                      |    20    20    22    22 | 55
colon_gas           | colon                      |  -900  -900  -900  -900 | 0
kidney_cortex_left  | kidney_left                |    33   182   188   150 | 5
kidney_cortex_right | kidney_right               |    33   182   188   150 | 5
kidney_medulla_left | kidney_left                |    30    72   168   158 | 6
kidney_medulla_right| kidney_right               |    30    72   168   158 | 6
adrenal_left        | adrenal_gland_left         |    16    62    78    58 | 5
adrenal_right       | adrenal_gland_right        |    16    62    78    58 | 5
bladder_wall        | bladder                    |    32    46    60    62 | 5
urine               | bladder                    |     5     6     8   210 | 5
prostate            | prostate                   |    40    58    78    78 | 9
gall_bladder        | gall_bladder               |    10    10    11    11 | 4
aorta               | aorta                      |    43   325   160   112 | 4
postcava            | postcava                   |    42    88   148   110 | 6
portal_splenic_vein | veins                      |    43    92   178   116 | 4
celiac_artery       | celiac_artery              |    43   322   162   112 | 4
mesenteric_artery   | superior_mesenteric_artery |    43   322   160   112 | 4
bile_duct           | common_bile_duct           |     8     9    12    12 | 4
femur_cortex_left   | femur_left                 |   520   520   520   520 | 45
femur_cortex_right  | femur_right                |   520   520   520   520 | 45
femur_marrow_left   | femur_left                 |   215   215   218   217 | 35
femur_marrow_right  | femur_right                |   215   215   218   217 | 35
pancreas_head       | pancreas pancreas_head     |    40   106    96    76 | 11
pancreas_body       | pancreas pancreas_body     |    40   106    96    76 | 11
pancreas_tail       | pancreas pancreas_tail     |    40   106    96    76 | 11
duct_head           | pancreas pancreas_head pancreatic_duct   | 13 18 22 20 | 4
duct_body           | pancreas pancreas_body pancreatic_duct   | 13 18 22 20 | 4
duct_tail           | pancreas pancreas_tail pancreatic_duct   | 13 18 22 20 | 4
lesion_head         | pancreas pancreas_head pancreatic_lesion | 36 56 62 70 | 9
lesion_body         | pancreas pancreas_body pancreatic_lesion | 36 56 62 70 | 9
lesion_tail         | pancreas pancreas_tail pancreatic_lesion | 36 56 62 70 | 9
"""


def _read(table: str) -> tuple[Tissue, ...]:
    rows = []
    for line in table.strip().splitlines():
        name, structures, hu, texture = (part.strip() for part in line.split("|"))
        a, b, c, d = (float(value) for value in hu.split())
        rows.append(Tissue(name, tuple(structures.split()), (a, b, c, d), float(texture)))
    return tuple(rows)


TISSUES = _read(_TABLE)
TISSUE_ID = {tissue.name: number for number, tissue in enumerate(TISSUES)}
PARTS = ("head", "body", "tail")


def tissue_ids(names: Iterable[str]) -> list[int]:
    """Numbers of tissues in a tissue map."""
    return [TISSUE_ID[name] for name in names]


def structure_mask(tissue_map: NDArray[np.uint8], structure: str) -> NDArray[np.bool_]:
    """The mask of one of the 28 structures, all false where none of its tissue is there."""
    table = np.zeros(256, dtype=np.bool_)
    table[[n for n, tissue in enumerate(TISSUES) if structure in tissue.structures]] = True
    return np.asarray(table[tissue_map])


def coded_masks(tissue_map: NDArray[np.uint8]) -> CodedMasks:
    """The masks of all 28 structures, each annotated.

    Args:
        tissue_map: (i, j, k) tissue ids, which become the codes.
    """
    sets = [frozenset(tissue.structures) for tissue in TISSUES]
    return CodedMasks(tissue_map, sets, set(STRUCTURES))


def hu_table(phase: str) -> Float32:
    """(256,) mean HU of each tissue id in a phase."""
    column = PHASES.index(phase)
    table = np.full(256, -1000.0, dtype=np.float32)
    table[: len(TISSUES)] = [tissue.hu[column] for tissue in TISSUES]
    return table


def texture_table() -> Float32:
    """(256,) standard deviation of each tissue's own unevenness, HU."""
    table = np.zeros(256, dtype=np.float32)
    table[: len(TISSUES)] = [tissue.texture for tissue in TISSUES]
    return table
