"""Pictures of results, drawn without a screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pantskit.core.files import atomic_path
from pantskit.measure.statistics import Roc

INK, ACCENT, QUIET = "#1b2a3a", "#b5443c", "#9aa5b1"


def draw_roc(roc: Roc, detection: dict[str, Any], path: Path) -> None:
    """Draw the ROC with its AUC, interval and operating point, as PNG.

    Args:
        roc: the curve.
        detection: the summary's part on detection.
        path: file to write.
    """
    figure = Figure(figsize=(5.2, 5.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 4)))
    auc = detection["auc"]
    axes.plot(
        roc.false_positive_rate,
        roc.sensitivity,
        color=INK,
        linewidth=2,
        label=f"AUC {auc['value']:.3f} (95 % {auc['low']:.3f} to {auc['high']:.3f})",
        clip_on=False,
    )
    hits, kept = detection["sensitivity_patient"], detection["specificity"]
    axes.errorbar(
        1 - kept["value"],
        hits["value"],
        xerr=[[kept["high"] - kept["value"]], [kept["value"] - kept["low"]]],
        yerr=[[hits["value"] - hits["low"]], [hits["high"] - hits["value"]]],
        color=ACCENT,
        marker="o",
        markersize=7,
        linewidth=1,
        capsize=3,
        label=f"{detection['operating_point']}:\nsensitivity {hits['value']:.2f}, "
        f"specificity {kept['value']:.2f}",
        clip_on=False,
        zorder=3,
    )
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
        xlabel="1 - specificity",
        ylabel="Sensitivity",
    )
    axes.set_title(
        f"Tumour detection: {detection['tumor_cases']} cases with, "
        f"{detection['normal_cases']} without tumour,\n"
        f"ranked by {detection['score_is'].partition(';')[0]}",
        fontsize=9,
        loc="left",
        color=INK,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e9ed", linewidth=0.8)
    axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9)
    with atomic_path(path) as part:
        figure.savefig(part, dpi=150)
