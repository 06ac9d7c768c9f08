"""Draw one case of a dataset in three planes, plain and with its structures: the README's picture.

pantskit phantom --out PHANTOM --cases 1 --seed 3 --size full --tumor-rate 1
python scripts/draw_case.py PHANTOM docs/images/phantom.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from pantskit.core.dataset import Dataset
from pantskit.core.labels import LESION, PANCREAS, PANTS
from pantskit.core.pictures import Plane, montage, slice_picture, widest_slice, write_png
from pantskit.core.volume import read_volume

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


def draw(dataset: Path, out: Path) -> None:
    """The first case, at the slices that show most of its tumour, or else of its pancreas."""
    case = Dataset.open(dataset).cases()[0]
    ct, labels = read_volume(case.image_path), case.labels()
    if labels is None:
        sys.exit(f"error: {case.case_id} has no labels")
    combined = labels.label_map(PANTS)
    masks = [m for s in (LESION, PANCREAS) if (m := labels.mask(s)) is not None and m.any()]
    if not masks:
        sys.exit(f"error: {case.case_id} has neither pancreas nor tumour")
    pictures = [
        slice_picture(
            ct.array,
            ct.geometry,
            plane=plane,
            index=widest_slice(masks[0], ct.geometry, plane),
            labels=shown,
            colors=PANTS.colors,
            height=320,
        )[:, 20:-20]
        for shown in (None, combined)
        for plane in PLANES
    ]
    write_png(out, montage(pictures, len(PLANES)))


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
