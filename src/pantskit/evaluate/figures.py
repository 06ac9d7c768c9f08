"""Pictures of results, drawn without a screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pantskit.core.files import atomic_path
from pantskit.core.labels import STRUCTURES
from pantskit.evaluate.detection import Curves
from pantskit.evaluate.scores import WORST
from pantskit.evaluate.strata import SIZES, size_group
from pantskit.measure.curve_samples import Band
from pantskit.measure.curves import Froc

INK, ACCENT, QUIET = "#1b2a3a", "#b5443c", "#9aa5b1"
_GRID = "#e6e9ed"
_BAND = "95 % of bootstrap samples of patients"

Row = Mapping[str, Any]


def draw_all(
    out: Path,
    summary: Mapping[str, Any],
    curves: Curves | None,
    froc: Froc | None,
    scores: Sequence[Row],
    lesions: Sequence[Row],
) -> None:
    """Draw every figure that there are numbers for, beside the tables.

    Args:
        out: folder of the scores.
        summary: content of summary.json.
        curves: of the main score; None without cases of both kinds.
        froc: None without lesions or candidates.
        scores: rows of the score table.
        lesions: rows of lesions.csv.
    """
    detection = summary["detection"]
    if curves is not None:
        draw_roc(curves, detection, out / "roc.png")
        draw_precision_recall(curves, detection, out / "precision_recall.png")
    if froc is not None:
        draw_froc(froc, detection, out / "froc.png")
    draw_structures(scores, out / "structures.png")
    draw_sizes(lesions, detection, out / "lesions_by_size.png")


def draw_roc(curves: Curves, detection: Mapping[str, Any], path: Path) -> None:
    """Draw the ROC with its AUC, intervals and operating points, as PNG."""
    with _figure(path, "1 - specificity", "Sensitivity") as axes:
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 4)))
        auc = detection["auc"]
        axes.plot(
            curves.roc.false_positive_rate,
            curves.roc.sensitivity,
            color=INK,
            linewidth=2,
            label=f"AUC {auc['value']:.3f} (95 % {auc['low']:.3f} to {auc['high']:.3f})",
            clip_on=False,
        )
        _shade(axes, curves.roc_band)
        for point in _own_points(detection):
            hits, kept = point["sensitivity_patient"], point["specificity"]
            label = f"{point['point']}:\nsensitivity {hits['value']:.2f}, "
            label += f"specificity {kept['value']:.2f}"
            alarms = {"value": 1 - kept["value"], "low": 1 - kept["high"], "high": 1 - kept["low"]}
            _mark(axes, alarms, hits, label)
        _title(axes, _of_cases(detection))
        axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9)


def draw_precision_recall(curves: Curves, detection: Mapping[str, Any], path: Path) -> None:
    """Draw precision against recall, with the operating point and the share of tumour cases."""
    with _figure(path, "Recall (sensitivity)", "Precision") as axes:
        share = detection["tumor_cases"] / detection["cases"]
        axes.axhline(share, color=QUIET, linewidth=1, linestyle=(0, (4, 4)))
        curve = curves.precision_recall
        reached = curve.recall > 0  # before the first case is found there is no precision to show
        precision = curve.precision[reached]
        axes.step(
            np.concatenate([[0.0], curve.recall[reached]]),
            np.concatenate([precision[:1], precision]),
            where="pre",
            color=INK,
            linewidth=2,
            label=_average_precision(detection["by_score"][detection["score"]]),
            clip_on=False,
        )
        _shade(axes, curves.precision_band)
        for point in _own_points(detection):
            if point["precision"]["of"]:
                label = f"{point['point']}:\nprecision {point['precision']['value']:.2f}"
                _mark(axes, point["sensitivity_patient"], point["precision"], label)
        _title(axes, f"{_of_cases(detection)}\ndashed: precision of calling every case positive")
        axes.legend(loc="lower left", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9)


def draw_froc(froc: Froc, detection: Mapping[str, Any], path: Path) -> None:
    """Draw lesions found against false positives per scan."""
    most = max(1.0, float(froc.false_positives[-1]))
    with _figure(path, "False positives per scan", "Share of tumours found", most) as axes:
        axes.step(
            froc.false_positives,
            froc.sensitivity,
            where="post",
            color=INK,
            linewidth=2,
            clip_on=False,
        )
        told = detection["froc"]
        found, _, ranked = told["rule"].partition(";")
        _title(
            axes,
            f"{told['lesions']} tumours in {told['scans']} scans; found:\n{found};{ranked}",
        )


def draw_structures(scores: Sequence[Row], path: Path) -> None:
    """Draw DSC and NSD of each case by structure: a dot a case, the box their quartiles."""
    first = min((row["tolerance_mm"] for row in scores), default=None)
    of_structure: dict[str, list[Row]] = {}
    for row in scores:
        if row["tolerance_mm"] == first and row["dsc"] is not None:
            of_structure.setdefault(row["structure"], []).append(row)
    names = [s for s in reversed([*STRUCTURES]) if s in of_structure]
    if not names:
        path.unlink(missing_ok=True)
        return
    figure = Figure(figsize=(9.6, 1.3 + 0.3 * len(names)), layout="constrained")
    sides = figure.subplots(1, 2, sharey=True)
    for axes, column, title in zip(
        sides, ("dsc", "nsd"), ("DSC", f"NSD at {first:g} mm"), strict=True
    ):
        for place, name in enumerate(names):
            _spread(axes, place, [r for r in of_structure[name] if r[column] is not None], column)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.7, len(names) - 0.3), xlabel=title)
    sides[0].set_yticks(
        range(len(names)),
        [f"{STRUCTURES[n].title}  (n = {len(of_structure[n])})" for n in names],
        fontsize=8,
    )
    _title(sides[0], "A dot a case; crosses: no usable prediction, counted as 0")
    for axes in sides:
        _tidy(axes)
    _save(figure, path)


def _spread(axes: Axes, place: int, rows: Sequence[Row], column: str) -> None:
    """The values of one structure, side by side along one line, and their quartiles."""
    values = np.array([r[column] for r in rows])
    worst = np.array([r["status"] in WORST for r in rows], dtype=np.bool_)
    # Spread so that dots do not hide one another, the same in every run.
    height = place + np.random.default_rng(0).uniform(-0.22, 0.22, values.size)
    axes.scatter(values[~worst], height[~worst], s=7, color=INK, alpha=0.45, linewidths=0)
    axes.scatter(values[worst], height[worst], s=12, color=ACCENT, marker="x", linewidths=1)
    axes.boxplot(
        values,
        positions=[place],
        orientation="horizontal",
        widths=0.6,
        showfliers=False,
        manage_ticks=False,
        medianprops={"color": ACCENT, "linewidth": 2},
        boxprops={"color": QUIET},
        whiskerprops={"color": QUIET},
        capprops={"color": QUIET},
    )


def draw_sizes(lesions: Sequence[Row], detection: Mapping[str, Any], path: Path) -> None:
    """Draw the best DSC of each tumour against its size, and the share found by size group."""
    if not lesions:
        path.unlink(missing_ok=True)
        return
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    sizes = np.array([r["longest_axis_mm"] for r in lesions])
    dsc = np.array([r["best_dsc"] for r in lesions])
    hit = np.array([bool(r["hit"]) for r in lesions])
    axes.scatter(sizes[hit], dsc[hit], s=22, color=INK, alpha=0.7, linewidths=0, label="found")
    axes.scatter(sizes[~hit], dsc[~hit], s=26, color=ACCENT, marker="x", label="missed")
    for _, limit in SIZES[:-1]:
        axes.axvline(limit, color=QUIET, linewidth=1, linestyle=(0, (4, 4)))
    most = max(60.0, float(sizes.max()) * 1.1)
    edges = [0.0, *(limit for _, limit in SIZES[:-1]), most]
    for (name, _), left, right in zip(SIZES, edges, edges[1:], strict=False):
        group = np.array([size_group(size) == name for size in sizes])
        text = f"{name}\n{int(hit[group].sum())} of {int(group.sum())}"
        axes.text((left + right) / 2, 1.02, text, ha="center", va="bottom", fontsize=8)
    axes.set(xlim=(0, most), ylim=(-0.03, 1.0), xlabel="Greatest dimension of the tumour (mm)")
    axes.set_ylabel("DSC with the best candidate")
    rule = detection["sensitivity_tumor"]["rule"]
    axes.set_title(f"found: {rule}", fontsize=9, loc="left", color=INK, pad=34)
    axes.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9)
    _finish(figure, axes, path)


@contextmanager
def _figure(path: Path, x: str, y: str, right: float = 1.0) -> Iterator[Axes]:
    """A square figure of two shares; written when the block ends."""
    figure = Figure(figsize=(5.2, 5.4), layout="constrained")
    axes = figure.add_subplot()
    yield axes
    axes.set(xlim=(0, right), ylim=(0, 1), xlabel=x, ylabel=y)
    axes.set_box_aspect(1)
    _finish(figure, axes, path)


def _finish(figure: Figure, axes: Axes, path: Path) -> None:
    _tidy(axes)
    _save(figure, path)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as part:
        figure.savefig(part, dpi=150)


def _title(axes: Axes, text: str) -> None:
    lines = [part for line in text.splitlines() for part in wrap(line, 64)]
    axes.set_title("\n".join(lines), fontsize=9, loc="left", color=INK)


def _shade(axes: Axes, band: Band) -> None:
    """The bootstrap interval of a curve at each place."""
    axes.fill_between(band.at, band.low, band.high, color=INK, alpha=0.12, linewidth=0, label=_BAND)


def _average_precision(scored: Mapping[str, Any]) -> str:
    found = scored["average_precision"]
    low, high = found["bootstrap"]
    return f"average precision {found['value']:.3f} (95 % {low:.3f} to {high:.3f})"


def _own_points(detection: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Operating points of the score whose curve is drawn; others do not lie on it."""
    return [p for p in detection["operating_points"] if p["score"] == detection["score"]]


def _of_cases(detection: Mapping[str, Any]) -> str:
    return (
        f"Tumour detection: {detection['tumor_cases']} cases with, "
        f"{detection['normal_cases']} without tumour,\n"
        f"ranked by {detection['score_is'].partition(';')[0]}"
    )


def _mark(axes: Axes, x: Mapping[str, float], y: Mapping[str, float], label: str) -> None:
    """A point with the intervals of both its shares."""
    axes.errorbar(
        x["value"],
        y["value"],
        xerr=_arms(x),
        yerr=_arms(y),
        color=ACCENT,
        marker="o",
        markersize=7,
        linewidth=1,
        capsize=3,
        label=label,
        clip_on=False,
        zorder=3,
    )


def _arms(share: Mapping[str, float]) -> list[list[float]]:
    """Lengths of the error bar's two arms; rounding must not make one negative."""
    value = share["value"]
    return [[max(0.0, value - share["low"])], [max(0.0, share["high"] - value)]]
