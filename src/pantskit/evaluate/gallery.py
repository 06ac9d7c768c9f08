"""The worst cases in one picture: what was annotated and what was predicted, on the CT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.dataset import Dataset
from pantskit.core.errors import PantskitError
from pantskit.core.files import atomic_path
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, PANCREAS, STRUCTURES, Mask
from pantskit.core.labelvolumes import resample_nearest
from pantskit.core.pictures import PLANE_CODES, RGB, slice_of, slice_picture, widest_slice
from pantskit.core.volume import Volume, read_volume
from pantskit.evaluate.case import Pair
from pantskit.evaluate.scores import SCORED

SHOWN = 12
COLUMNS = 4
WINDOW_MM = 160.0
PIXELS = 420

# Reference only, prediction only, both.
COLORS = {1: (70, 130, 255), 2: (230, 70, 60), 3: (90, 200, 110)}

Row = Mapping[str, Any]


def worst_rows(scores: Sequence[Row], count: int = SHOWN) -> list[Row]:
    """The rows of the score table that went worst, at most one a case.

    Tumours that were missed or made up come first, then the pancreas, then other structures;
    within each the lowest DSC. Cases without a usable prediction have nothing to show.

    Args:
        scores: rows of the score table.
        count: how many at most.
    """
    first = min((row["tolerance_mm"] for row in scores), default=None)
    rows = [
        r
        for r in scores
        if r["tolerance_mm"] == first
        and r["status"] == SCORED
        and r["dsc"] is not None
        and r["structure"] in STRUCTURES  # of a union, its structures are shown
    ]
    order = {LESION: 0, PANCREAS: 1}
    rows.sort(key=lambda r: (order.get(r["structure"], 2), r["dsc"], r["case_id"]))
    worst: dict[str, Row] = {}
    for row in rows:
        if row["dsc"] < 1:
            worst.setdefault(row["case_id"], row)
    return list(worst.values())[:count]


def draw_gallery(
    out: Path, scores: Sequence[Row], pairs: Mapping[str, Pair], reference: Path
) -> None:
    """Draw failures.png: the slice that shows most of each failure, reference and prediction.

    Args:
        out: folder of the scores.
        scores: rows of the score table.
        pairs: case_id to its labels.
        reference: the dataset, for its CTs; without them the labels are shown alone.
    """
    path = out / "failures.png"
    path.unlink(missing_ok=True)
    panels = []
    for row in worst_rows(scores):
        try:
            panels.append((row, _panel(row, pairs[row["case_id"]], reference)))
        except (PantskitError, OSError):
            continue  # its labels or CT changed or went since they were scored
    if not panels:
        return
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.3 * columns, 3.1 * rows + 0.5), layout="constrained")
    figure.suptitle(
        "Worst cases. Blue: annotated, not predicted; red: predicted, not annotated; green: both",
        fontsize=10,
    )
    for n in range(rows * columns):
        axes = figure.add_subplot(rows, columns, n + 1)
        axes.axis("off")
        if n < len(panels):
            row, picture = panels[n]
            axes.imshow(picture)
            title = STRUCTURES[row["structure"]].title
            axes.set_title(f"{row['case_id']}\n{title}, DSC {row['dsc']:.2f}", fontsize=8)
    with atomic_path(path) as part:
        figure.savefig(part, dpi=130)


def _panel(row: Row, pair: Pair, reference: Path) -> RGB:
    assert pair.prediction is not None
    structure, geometry = row["structure"], pair.reference.geometry
    # Copies, so that a label map that is read goes when the panel is drawn.
    truth, found = copy(pair.reference).mask(structure), copy(pair.prediction).mask(structure)
    assert truth is not None and found is not None
    placed = Volume(found, pair.prediction.geometry)
    if not placed.geometry.same_grid(geometry):  # scored with --resample
        placed = resample_nearest(placed, geometry)
    labels: NDArray[np.uint8] = truth.astype(np.uint8) + 2 * placed.array.astype(np.uint8)
    index = widest_slice(truth ^ placed.array, geometry)
    rows, columns, height = _window(truth ^ placed.array, geometry, index)
    ct = _ct(reference, row["case_id"], geometry)
    whole = slice_picture(ct, geometry, index=index, labels=labels, colors=COLORS, height=height)
    return whole[rows, columns]


def _window(failed: Mask, geometry: Geometry, index: int) -> tuple[slice, slice, int]:
    """Rows and columns of the slice's picture around a failure, and that picture's height.

    The window is a square of `WINDOW_MM`, or as large as the failure asks for, within the slice.
    """
    there = slice_of(failed, geometry, "axial", index)
    spacing = geometry.reoriented(PLANE_CODES["axial"]).spacing[1:]
    extent = [n * mm for n, mm in zip(there.shape, spacing, strict=True)]
    ends = [
        ((n.min() * mm, (n.max() + 1) * mm) if n.size else (0.0, whole))
        for n, mm, whole in zip(np.nonzero(there), spacing, extent, strict=True)
    ]
    side = max(WINDOW_MM, *(1.2 * (high - low) for low, high in ends))
    per_mm = PIXELS / min(side, max(extent))
    window = []
    for (low, high), whole in zip(ends, extent, strict=True):
        start = min(max(0.0, (low + high - side) / 2), max(0.0, whole - side))
        window.append(slice(round(start * per_mm), round((start + side) * per_mm)))
    return window[0], window[1], max(1, round(extent[0] * per_mm))


def _ct(reference: Path, case_id: str, geometry: Geometry) -> NDArray[Any]:
    """The CT of a case in HU; black where there is none on the labels' grid."""
    black = np.full(geometry.shape, -1000, np.int16, order="F")
    try:
        case = Dataset.open(reference).case(case_id)
    except PantskitError:
        return black
    if not case.image_path.is_file():
        return black
    volume = read_volume(case.image_path)
    return volume.array if volume.geometry.same_grid(geometry) else black
