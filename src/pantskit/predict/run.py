"""Predict many CTs with one model: a folder of predictions, resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantskit.core.errors import ConfigError, DatasetError, ImageError, LabelError, PantskitError
from pantskit.core.files import write_json
from pantskit.core.labels import STRUCTURES
from pantskit.core.records import RecordStore
from pantskit.core.run import Job, Progress, RunSummary
from pantskit.core.volume import Volume, read_header, read_volume
from pantskit.core.writing import write_volume
from pantskit.networks.axes import header_spacing
from pantskit.networks.folder import Model
from pantskit.networks.runtime import library_versions, own_cores
from pantskit.predict.case import TUMOR_PROBABILITY, Prediction, Shortcuts, predict_volume, prepare
from pantskit.predict.devices import Devices, run_on_devices
from pantskit.predict.results import (
    FACTS,
    Output,
    claim_folder,
    output_files,
    remove_result,
    require_source,
    write_result,
)
from pantskit.predict.turns import SharedTurns, Turn, Turns
from pantskit.predict.usable import open_model, reading, require_usable
from pantskit.predict.windows import ShortMemory, out_of_memory

if TYPE_CHECKING:
    import torch

STAGE = "predict"
ENTROPY = "entropy.nii.gz"


@dataclass(frozen=True)
class PredictSettings:
    """How to predict.

    Attributes:
        mirror: average over the flips that the model was trained with.
        device: as `networks.runtime.parse_devices` reads it.
        masks: write a separate mask of each structure too.
        probabilities: structures whose probability is written too.
        entropy: write the answer's entropy too.
        label_map: of a model that was trained elsewhere: what its ids mean, as
            `LabelMap.parse` reads it; None goes by the names in its dataset.json.
        shortcuts: what may be computed otherwise than nnU-Net does.
        exact: nothing is, and on a GPU all is float32, by the same kernels in every run.
        batch: windows computed at once; None takes 1 on a CPU and 4 on a GPU.
        format, postprocess, dicom: as in `results.Output`.
    """

    mirror: bool = True
    device: str = "auto"
    masks: bool = False
    probabilities: tuple[str, ...] = ()
    entropy: bool = False
    label_map: str | None = None
    shortcuts: Shortcuts = field(default_factory=Shortcuts)
    exact: bool = False
    batch: int | None = None
    format: str = "pants"
    postprocess: tuple[str, ...] = ()
    dicom: Path | None = None

    @property
    def output(self) -> Output:
        """What becomes of an answer."""
        return Output(self.format, self.postprocess, self.masks, self.dicom)

    def __post_init__(self) -> None:
        require_structures(self.probabilities)
        if not 0 < self.shortcuts.step <= 1:
            raise ConfigError(f"step {self.shortcuts.step:g}: windows are 0 to 1 patch apart")
        if self.batch is not None and self.batch < 1:
            raise ConfigError(f"batch {self.batch}: at least one window is computed at once")
        if not self.mirror and self.shortcuts.mirror_axes is not None:
            raise ConfigError("--no-mirror and --mirror-axes: give one of them")
        taken = (*self.shortcuts.options, *(() if self.mirror else ("--no-mirror",)))
        if self.exact and taken:
            raise ConfigError(
                f"--exact and {', '.join(taken)}: a shortcut changes the answer; leave one out"
            )


def require_structures(names: Sequence[str]) -> None:
    """Refuse names that are none of the 28 structures.

    Raises:
        LabelError: If one is.
    """
    for name in names:
        if name not in STRUCTURES:
            raise LabelError(f"{name!r} is none of the 28 structures")


_State = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class _Task:
    """What a worker needs to know of a case."""

    image: Path
    model: Path
    state: _State
    content: str
    out: Path
    settings: PredictSettings


def predict_cases(
    model_folder: Path,
    inputs: Mapping[str, Path],
    out: Path,
    *,
    settings: PredictSettings | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Predict CTs into a folder that `evaluate` reads.

    Writes `dataset.json` (label space and the structures the model knows) and for each case
    `combined_labels.nii.gz` and `prediction.json`. A rerun does only what is missing or
    changed; a CT that cannot be read is a failed case.

    Args:
        model_folder: made by `train_model`.
        inputs: case_id to its CT.
        out: the predictions' folder.
        settings: how.
        workers: processes that do cases, as `devices.Devices` has it.
        progress: as in `run_cases`.

    Raises:
        ConfigError: If devices and workers do not go together.
        DatasetError: If the model cannot be used, or the folder is another thing's.
    """
    settings = settings or PredictSettings()
    devices = Devices.parse(settings.device, workers)
    folder = model_folder.absolute()
    state = _state_of_folder(folder)
    model = _model(folder, settings.label_map, state)
    require_usable(model, label_map=settings.label_map, structures=settings.probabilities)
    output, content = settings.output, model.checkpoint_hash
    settings.shortcuts.require_known_to(model)
    read_as = reading(model)
    claim_folder(out, model.heads.structures, content, output, reading=read_as)
    jobs = [
        Job(
            case_id,
            _Task(image, folder, state, content, out.absolute(), settings),
            inputs=(image,),
            outputs=(*output_files(out, case_id, output), *extra_files(out / case_id, settings)),
        )
        for case_id, image in inputs.items()
    ]
    if devices.workers:
        _model.cache_clear()  # a model of many folds takes gigabytes, and others compute
    del model
    # What the answer does not depend on makes no case run again.
    kept = {k: v for k, v in asdict(settings).items() if k not in ("device", "batch")}
    return run_on_devices(
        predict_case,
        jobs,
        devices,
        stage=STAGE,
        store=RecordStore(out),
        settings={
            "model": content,
            "reading": read_as,
            "device": devices.kind,
            **kept,
            **library_versions(),
        },
        progress=progress,
    )


def predict_case(job: Job, turns: Turns, device_name: str) -> dict[str, Any]:
    """Predict one CT and write its files; returns what prediction.json says."""
    import torch

    started = time.perf_counter()
    task: _Task = job.payload
    device, settings, folder = torch.device(device_name), task.settings, task.out / job.case_id
    remove_prediction(task.out, job.case_id, settings.output)
    model = _model(task.model, settings.label_map, task.state)
    if model.checkpoint_hash != task.content:
        raise DatasetError(f"{task.model}: the model changed while it was used; run again")
    before = file_state(task.image)
    turns.await_memory(room_mb(task.image))
    image = read_volume(task.image)
    require_source(settings.output, image, job.case_id)
    spacing = header_spacing(task.image, image.geometry)
    try:
        turn = _computed(model, image, spacing, settings, device, turns)
    except PantskitError as error:
        raise type(error)(f"{job.case_id}: {error}") from None
    if file_state(task.image) != before:
        raise ImageError(f"{job.case_id}: the CT changed while it was read; run again")
    prediction = turn.value
    with all_or_nothing(task.out, job.case_id, settings.output):
        result = write_result(
            task.out,
            job.case_id,
            image,
            prediction.labels,
            model.heads.structures,
            model=model.checkpoint_hash,
            output=settings.output,
        )
        write_extras(folder, prediction.probabilities, prediction.entropy)
        result |= _facts(model, settings, prediction) | {
            "device": device_name,
            "seconds": round(time.perf_counter() - started, 3),
            "network_s": round(turn.network_s, 3),
            "waited_s": round(turn.waited_s, 3),
            "versions": library_versions(),
        }
        write_json(folder / FACTS, result)
    return result


def _facts(model: Model, settings: PredictSettings, prediction: Prediction) -> dict[str, Any]:
    """What prediction.json says of the network's answer and how it came about."""
    return {
        "tumor_probability": prediction.tumor_probability,
        "tumor_probability_is": TUMOR_PROBABILITY,
        "unmapped": list(model.heads.unmapped),
        "folds": len(model.folds),
        "mirrored": settings.mirror and bool(model.mirror_axes),
        "orientation": model.orientation or "as in the file: the model does not say",
        "exact": settings.exact,
        "shortcuts": asdict(settings.shortcuts),
        "compiled": prediction.compiled,
        "precision": prediction.precision,
        "windows": prediction.windows,
        "windows_skipped": prediction.skipped,
        "notes": [*prediction.notes, *_unspoken(model)],
    }


def _unspoken(model: Model) -> list[str]:
    """What the model finds and its predictions cannot say."""
    names = model.heads.unmapped
    if not names:
        return []
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [
        f"{len(names)} of the model's labels are none of the 28 structures and became background: "
        f"{shown}; --label-map says what labels mean"
    ]


def _computed(
    model: Model,
    image: Volume,
    spacing: Sequence[float],
    settings: PredictSettings,
    device: torch.device,
    turns: Turns,
) -> Turn[Prediction]:
    """The network's answer, once it is this case's turn.

    Raises:
        ShortMemory: If there is no memory for the network or one window.
    """

    def work(network: torch.nn.Module) -> Prediction:
        try:
            return predict_volume(
                model,
                network,
                ready,
                device=device,
                mirror=settings.mirror,
                threads=own_cores(),
                batch=settings.batch or (4 if device.type == "cuda" else 1),
                shortcuts=settings.shortcuts,
                exact=settings.exact,
                probabilities=settings.probabilities,
                entropy=settings.entropy,
            )
        finally:
            if device.type == "cuda" and isinstance(turns, SharedTurns):
                _give_back_memory()

    try:
        ready = prepare(model, image, device=device, spacing=spacing)
        return turns.compute(
            str(device), lambda: _network(model, device, settings.shortcuts.compile), work
        )
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise ShortMemory(
                "out of memory for the network; free memory or use --device cpu"
            ) from None
        raise


def _give_back_memory() -> None:
    """Let the process whose turn is next have what torch keeps of a GPU for the next case."""
    import torch

    torch.cuda.empty_cache()


def room_mb(path: Path) -> float:
    """Memory that must be free for a CT to be read ahead: it, its labels, and as much again."""
    try:
        header = read_header(path)
    except PantskitError:
        return 0.0  # `read_volume` says it
    return 2 * (header.n_bytes + math.prod(header.shape)) / 2**20


def file_state(path: Path) -> tuple[int, int]:
    """What changes when somebody writes to a file."""
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns


def write_extras(folder: Path, chances: Mapping[str, Volume], entropy: Volume | None) -> None:
    """Write probabilities and entropy into a case's folder."""
    for structure, volume in chances.items():
        write_volume(probability_path(folder, structure), volume)
    if entropy is not None:
        write_volume(folder / ENTROPY, entropy)


def probability_path(folder: Path, structure: str) -> Path:
    """Where a case's folder holds the probability of a structure, for `evaluate`."""
    return folder / "probabilities" / f"{structure}.nii.gz"


def extra_files(folder: Path, settings: PredictSettings) -> tuple[Path, ...]:
    """Files of a case's folder for probabilities and entropy."""
    paths = tuple(probability_path(folder, structure) for structure in settings.probabilities)
    return (*paths, folder / ENTROPY) if settings.entropy else paths


def remove_prediction(out: Path, case_id: str, output: Output) -> None:
    """Take an earlier prediction away with all that belongs to it."""
    remove_result(out, case_id, output)
    folder = out / case_id
    for path in (folder / ENTROPY, *(probability_path(folder, s) for s in STRUCTURES)):
        path.unlink(missing_ok=True)


@contextmanager
def all_or_nothing(out: Path, case_id: str, output: Output) -> Iterator[None]:
    """Take away what a case has written when the block fails, as on a full disk."""
    try:
        yield
    except BaseException:
        remove_prediction(out, case_id, output)
        raise


@lru_cache(maxsize=1)
def _model(folder: Path, label_map: str | None, state: _State) -> Model:
    """The model, loaded once a process; the state is in the key, so that a change is seen."""
    return open_model(folder, label_map)


def _state_of_folder(folder: Path) -> _State:
    """Names, sizes and times of a model's files."""
    files = sorted((*folder.glob("*.json"), *folder.glob("fold_*/*.pth")))
    return tuple((str(path), *file_state(path)) for path in files)


@lru_cache(maxsize=1)
def _network(model: Model, device: torch.device, compiled: bool) -> torch.nn.Module:
    from pantskit.networks.compiled import Compiled

    network = model.build(device)
    return Compiled(network, device) if compiled else network
