"""Pictures of the page: CT, reference and prediction side by side, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pantskit.core.dataset import Case
from pantskit.core.geometry import require_same_grid
from pantskit.core.labels import LESION, PANCREAS, PANTS, LabelArray
from pantskit.core.labelsets import CaseLabels
from pantskit.core.pictures import (
    PLANE_CODES,
    Plane,
    montage,
    slice_count,
    slice_picture,
    widest_slice,
    write_png,
)
from pantskit.core.volume import Volume, read_volume

SLICES = 24
HEIGHT, WIDTH = 300, 400  # pixels of one panel


@dataclass(frozen=True)
class CaseFigures:
    """Pictures of one case, as paths relative to the page.

    Attributes:
        case_id: the case.
        panels: titles of the columns in each picture.
        stack: axial pictures from below upward.
        start: position in the stack to open at.
        coronal: one coronal picture.
    """

    case_id: str
    panels: tuple[str, ...]
    stack: tuple[str, ...]
    start: int
    coronal: str


def draw_case(case: Case, predicted: CaseLabels | None, root: Path) -> CaseFigures:
    """Draw a case's CT beside what is known and what was predicted of it.

    Args:
        case: with or without labels.
        predicted: labels predicted on the same grid, or None.
        root: folder of the page; pictures go to `pictures/<case_id>/` in it.
    """
    ct = read_volume(case.image_path)
    maps: list[tuple[str, LabelArray | None]] = [("CT", None)]
    reference = case.labels()
    for title, labels in (("reference", reference), ("prediction", predicted)):
        if labels is not None:
            require_same_grid(labels.geometry, ct.geometry, what=f"{case.case_id}: {title} and CT")
            maps.append((title, labels.label_map(PANTS)))
    folder = root / "pictures" / case.case_id
    known = reference or predicted
    axial = _widest(known, ct, "axial") if known else slice_count(ct.geometry) // 2
    coronal = _widest(known, ct, "coronal") if known else slice_count(ct.geometry, "coronal") // 2
    total = slice_count(ct.geometry)
    chosen = sorted({*np.linspace(0, total - 1, min(SLICES, total)).round().astype(int), axial})
    stack = []
    for index in chosen:
        path = folder / f"axial_{index:04d}.png"
        write_png(path, _panels(ct, maps, "axial", int(index)))
        stack.append(str(path.relative_to(root)))
    path = folder / "coronal.png"
    write_png(path, _panels(ct, maps, "coronal", coronal))
    titles = tuple(title for title, _ in maps)
    return CaseFigures(
        case.case_id, titles, tuple(stack), chosen.index(axial), str(path.relative_to(root))
    )


def _widest(labels: CaseLabels, ct: Volume, plane: Plane) -> int:
    """The slice that shows most of the tumour, else of the pancreas."""
    for structure in (LESION, PANCREAS):
        mask = labels.mask(structure)
        if mask is not None and mask.any():
            return widest_slice(mask, ct.geometry, plane)
    return slice_count(ct.geometry, plane) // 2


def _panels(
    ct: Volume, maps: list[tuple[str, LabelArray | None]], plane: Plane, index: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    _, rows, columns = ct.geometry.reoriented(PLANE_CODES[plane]).extent_mm
    pictures = [
        slice_picture(
            ct.array,
            ct.geometry,
            plane=plane,
            index=index,
            labels=labels,
            colors=PANTS.colors,
            height=min(HEIGHT, round(WIDTH * rows / columns)),
        )
        for _, labels in maps
    ]
    # One cell size for all planes, so that columns stand under their titles.
    cells = [np.zeros((HEIGHT, WIDTH, 3), np.uint8) for _ in pictures]
    for cell, picture in zip(cells, pictures, strict=True):
        height, width = picture.shape[0], min(picture.shape[1], WIDTH)
        top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
        cell[top : top + height, left : left + width] = picture[:, :width]
    return montage(cells, len(cells))
