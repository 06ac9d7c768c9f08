"""The path of the demo: which commands, in which order, on which folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pantskit.core.errors import ConfigError, PantskitError
from pantskit.core.files import write_json
from pantskit.demo.page import write_page
from pantskit.demo.steps import Step, StepResult, run_step

CASES = 24
TUMOR_RATE = 0.5  # the paper's 11 % would leave the held-out site without a tumour to find
# The first seed whose held-out site has as many scans with as without a tumour (4 and 4, of
# all four phases), as its training sites have (8 and 8).
SEED = 2


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: its steps and its page."""

    steps: tuple[StepResult, ...]
    page: Path

    @property
    def exit_status(self) -> int:
        """1 when a step reported cases that were not done."""
        return max((s.exit_status for s in self.steps), default=0)


def run_demo(
    root: Path,
    *,
    dicom: Path | None = None,
    on_step: Callable[[Step, int, int], None] = lambda *_: None,
    on_line: Callable[[str], None] = lambda _: None,
) -> DemoResult:
    """Run every stage once and write `root/index.html`.

    The held-out site is the last one: the network never sees its scans. A second run does
    again only what is missing.

    Args:
        root: folder for everything.
        dicom: real series to take through ingest, prediction and the page as well.
        on_step: called before each step with the step, its number and the number of steps.
        on_line: called with each line that a command prints.

    Raises:
        PantskitError: If a step could not run.
    """
    if dicom is not None and not dicom.exists():
        raise ConfigError(f"--dicom {dicom}: no such file or folder")
    root = root.absolute()
    if root.exists() and not root.is_dir():
        raise ConfigError(f"--out {root}: is a file; give a folder")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PantskitError(f"{root}: cannot be made: {error.strerror}") from None
    done: list[StepResult] = []
    first = phantom_step(root)
    total = 9 if dicom is None else 12

    def run(step: Step) -> None:
        on_step(step, len(done) + 1, total)
        done.append(run_step(step, root, on_line=on_line))

    run(first)
    for step in (*ingest_steps(root), *learning_steps(root)):
        run(step)
    if dicom is not None:
        for step in real_steps(root, dicom.absolute()):
            run(step)
    on_step(Step("page", "Draw the page", (), "index.html"), total, total)
    page = write_page(root, done, real=dicom is not None)
    rows = [
        {
            "step": r.step.name,
            "command": r.step.command(root),
            "seconds": round(r.seconds, 2),
            "exit_status": r.exit_status,
        }
        for r in done
    ]
    write_json(root / "demo.json", {"steps": rows})
    return DemoResult(tuple(done), page)


def phantom_step(root: Path) -> Step:
    """Synthetic patients of three sites, as hospitals would deliver them."""
    arguments = ("phantom", "--out", str(root / "phantom"), "--dicom", str(root / "dicom"))
    options = ("--cases", str(CASES), "--seed", str(SEED), "--tumor-rate", str(TUMOR_RATE))
    title = "Make synthetic patients of three sites, as DICOM with names in it"
    quick = ("--refine", "0", "--workers", "2")  # nobody reads the truth of volumes here
    return Step("phantom", title, (*arguments, *options, *quick), "dicom")


def sites(root: Path) -> list[str]:
    """Site folders of the DICOM delivery; the last is held out for testing."""
    manifest = json.loads((root / "dicom" / "manifest.json").read_text("utf-8"))
    return list(dict.fromkeys(series["site"] for series in manifest["series"]))


def ingest_steps(root: Path) -> list[Step]:
    """One ingest a site: the last goes to the test split."""
    *training, held_out = sites(root)
    steps = []
    for site in (*training, held_out):
        split = "test" if site == held_out else "train"
        source = root / "dicom" / site
        arguments = (
            *("ingest", str(source), "--labels", str(source / "labels")),
            *("--out", str(root / "dataset"), "--site", site, "--split", split),
        )
        title = f"De-identify and standardise {site}" + (" (held out)" if split == "test" else "")
        steps.append(Step(f"ingest-{site}", title, arguments, "dataset"))
    return steps


def learning_steps(root: Path) -> list[Step]:
    """Check, train, predict the held-out site, evaluate."""
    dataset, model = str(root / "dataset"), str(root / "model")
    predictions, scores = str(root / "predictions"), str(root / "scores")
    return [
        Step(
            "check",
            "Check geometry and masks",
            ("check", dataset, "--out", str(root / "check")),
            "check/findings.csv",
        ),
        Step(
            "train",
            "Train a small nnU-Net, briefly",
            ("train", dataset, "--out", model, "--recipe", "cpu"),
            "model",
        ),
        Step(
            "predict",
            "Predict the held-out site",
            ("predict", model, dataset, "--split", "test", "--out", predictions),
            "predictions",
        ),
        Step(
            "evaluate",
            "Score the predictions",
            ("evaluate", predictions, dataset, "--split", "test", "--out", scores, "--figures"),
            "scores/summary.json",
        ),
    ]


def real_steps(root: Path, dicom: Path) -> list[Step]:
    """Real series through ingest, check and prediction."""
    real, predictions = str(root / "real"), str(root / "real-predictions")
    return [
        Step(
            "real-ingest",
            "De-identify and standardise your series",
            ("ingest", str(dicom), "--out", real, "--split", "test"),
            "real",
        ),
        Step(
            "real-check",
            "Check your series",
            ("check", real, "--out", str(root / "real-check")),
            "real-check/findings.csv",
        ),
        Step(
            "real-predict",
            "Predict your series (with a network that saw only phantoms)",
            ("predict", str(root / "model"), real, "--split", "test", "--out", predictions),
            "real-predictions",
        ),
    ]
