"""Model folders: an nnU-Net trained-model folder, plus model.json.

MODEL/model.json                      what the channels mean, and where they come from
MODEL/plans.json, dataset.json, dataset_fingerprint.json
MODEL/fold_0/checkpoint_final.pth
MODEL/recipe.toml, progress.csv, progress.png
"""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantskit.core.errors import DatasetError, LabelError
from pantskit.core.files import content_hash, write_json
from pantskit.core.labels import LabelSpace, require_structure
from pantskit.networks.plans import Plans

if TYPE_CHECKING:
    import torch

MODEL_FILE = "model.json"
FOLD = "fold_0"
CHECKPOINT = "checkpoint_final.pth"
FORMAT = 1


@dataclass(frozen=True)
class ModelInfo:
    """Content of model.json.

    Attributes:
        channels: structure of output channel 1, 2, ...; channel 0 is background.
        orientation: of the training images, as nibabel codes; inputs are brought to it.
        spacing: mm along (i, j, k) of the network's input.
        label_scheme: `"28"` or `"2"`.
        status: `"complete"`, or `"interrupted"` by Ctrl-C: usable, trained less.
        fingerprint: hash of everything the training started from.
        training: recipe, seed, cases with the hashes of their files, structures left out,
            epochs, seconds.
        versions: of the libraries.
    """

    channels: tuple[str, ...]
    orientation: str
    spacing: tuple[float, float, float]
    label_scheme: str
    status: str
    fingerprint: str
    training: dict[str, Any]
    versions: dict[str, str]
    format: int = FORMAT
    configuration: str = "3d_fullres"

    @property
    def space(self) -> LabelSpace:
        """The channels as a label space."""
        return channel_space(self.channels)

    def write(self, folder: Path) -> None:
        """Write model.json, atomically."""
        values = asdict(self)
        values["channels"] = {str(i): s for i, s in enumerate(self.channels, 1)}
        write_json(folder / MODEL_FILE, values)


def channel_space(structures: tuple[str, ...]) -> LabelSpace:
    """Structures as contiguous ids from 1, which a softmax needs."""
    return LabelSpace("model", dict(enumerate(structures, 1)))


def read_info(folder: Path) -> ModelInfo:
    """Read model.json.

    Raises:
        DatasetError: If the folder is no model of ours or its model.json cannot be used.
    """
    path = folder / MODEL_FILE
    values = _read_json(path)
    try:
        channels = values["channels"]
        names = tuple(require_structure(channels[str(i)]) for i in range(1, len(channels) + 1))
        i, j, k = values["spacing"]
        values |= {"channels": names, "spacing": (i, j, k)}
        info = ModelInfo(**values)
    except (KeyError, TypeError, ValueError, LabelError) as error:
        raise DatasetError(f"{path}: not a model.json of pantskit: {error!r}") from None
    if info.format != FORMAT:
        raise DatasetError(f"{path}: format {info.format}; this version reads format {FORMAT}")
    return info


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model, ready to build.

    Attributes:
        folder: where it lies.
        info: its model.json.
        plans: its nnU-Net plans.
        weights: parameters by name, on the CPU.
        mirror_axes: axes of the network's input that may be mirrored at prediction.
        checkpoint_hash: of the weights' file.
    """

    folder: Path
    info: ModelInfo
    plans: Plans
    weights: dict[str, torch.Tensor] = field(repr=False)
    mirror_axes: tuple[int, ...]
    checkpoint_hash: str

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read a model folder; code in a checkpoint is never run.

        Raises:
            DatasetError: If a file is missing, damaged, or holds more than plain data.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; a model is made by `pantskit train`")
        info = read_info(folder)
        plans = Plans(
            _read_json(folder / "plans.json"),
            _read_json(folder / "dataset.json"),
            info.configuration,
        )
        if plans.n_channels != len(info.channels) + 1:
            raise DatasetError(
                f"{folder}: model.json names {len(info.channels)} structures, dataset.json has "
                f"{plans.n_channels - 1}; one of them is another model's"
            )
        path = folder / FOLD / CHECKPOINT
        checkpoint = load_checkpoint(path)
        try:
            weights = dict(checkpoint["network_weights"])
            mirror = tuple(checkpoint.get("inference_allowed_mirroring_axes") or ())
        except (KeyError, TypeError, ValueError):
            raise DatasetError(f"{path}: no network_weights; not an nnU-Net checkpoint") from None
        return cls(folder, info, plans, weights, mirror, content_hash(path))

    def build(self, device: torch.device) -> torch.nn.Module:
        """The network with its weights, for prediction.

        Raises:
            DatasetError: If the weights do not fit the plans.
        """
        network = self.plans.build_network()
        try:
            network.load_state_dict(self.weights)
        except (RuntimeError, AttributeError) as error:
            first = str(error).splitlines()[-1].strip()
            raise DatasetError(f"{self.folder}: weights do not fit plans.json: {first}") from None
        return network.to(device).eval()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's plain data and tensors; a pickle that does more is refused.

    Raises:
        DatasetError: If the file is missing, damaged, or wants to run code.
    """
    import torch

    if not path.is_file():
        raise DatasetError(f"{path}: no such file; was the training finished?")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(
            f"{path}: refused: damaged, or holds more than tensors and plain data ({reason})"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(
            f"{path}: damaged checkpoint ({reason}); copy or train it again"
        ) from None
    if not isinstance(checkpoint, dict):
        raise DatasetError(f"{path}: holds a {type(checkpoint).__name__}, not a checkpoint")
    return checkpoint


def _numpy_scalars() -> list[Any]:
    """nnU-Net's own checkpoints log numpy numbers: harmless, and unknown to weights_only."""
    import numpy as np
    from numpy._core.multiarray import scalar

    return [scalar, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(
            f"{path}: no such file; a model folder holds model.json, plans.json, dataset.json "
            f"and {FOLD}/{CHECKPOINT}"
        )
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise DatasetError(f"{path}: expected an object, found {type(values).__name__}")
    return values
