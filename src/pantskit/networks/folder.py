"""Model folders: an nnU-Net trained-model folder, plus model.json where we trained it.

MODEL/model.json                      what the channels mean, and where they come from
MODEL/plans.json, dataset.json, dataset_fingerprint.json
MODEL/fold_0/checkpoint_final.pth
MODEL/recipe.toml, progress.csv, progress.png
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from pantskit.core.errors import DatasetError, LabelError
from pantskit.core.files import content_hash, write_json
from pantskit.core.labels import LabelMap, LabelSpace, require_structure
from pantskit.networks.heads import Heads, heads_of_channels, heads_of_nnunet
from pantskit.networks.plans import Plans

if TYPE_CHECKING:
    import torch

MODEL_FILE = "model.json"
FOLD = "fold_0"
CHECKPOINT = "checkpoint_final.pth"
FORMAT = 1
_RECIPE = "recipe.toml"  # where it is, model.json is missed: it says how the scans must lie


@dataclass(frozen=True)
class ModelInfo:
    """Content of model.json.

    Attributes:
        channels: structure of output channel 1, 2, ...; channel 0 is background. Of regions,
            of channel 0, 1, ...
        orientation: of the training images, as nibabel codes; inputs are brought to it.
        spacing: mm along (i, j, k) of the network's input.
        label_scheme: its name, such as `"28"`.
        status: `"complete"`, or `"interrupted"` by Ctrl-C: usable, trained less.
        fingerprint: hash of everything the training started from.
        training: recipe, seed, cases with the hashes of their files, structures left out,
            epochs, seconds.
        versions: of the libraries.
        heads: `"softmax"`, or `"regions"`: channel 0 is the first structure, and each is painted
            over those before.
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
    heads: str = "softmax"

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
        plans: its nnU-Net plans.
        heads: what its output channels mean.
        orientation: of the training images; None where nobody wrote it down: CTs are then
            given to the network as they lie in their files, as nnU-Net does.
        folds: parameters by name, on the CPU, of each network of the ensemble.
        mirror_axes: axes of the network's input that may be mirrored at prediction.
        checkpoint_hash: of the weights' files, and of a label map given for them.
        info: its model.json; None of a model that was trained elsewhere.
    """

    folder: Path
    plans: Plans
    heads: Heads
    orientation: str | None
    folds: tuple[dict[str, torch.Tensor], ...] = field(repr=False)
    mirror_axes: tuple[int, ...]
    checkpoint_hash: str
    info: ModelInfo | None = None

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Parameters of the first network."""
        return self.folds[0]

    def require_known(self, structure: str) -> tuple[int, ...]:
        """The channels of a structure.

        Raises:
            DatasetError: If the model does not know it.
        """
        channels = self.heads.channels_of(structure)
        if not channels:
            raise DatasetError(
                f"{self.folder}: the model does not know {structure}; it knows "
                f"{', '.join(self.heads.structures)}"
            )
        return channels

    @classmethod
    def load(cls, folder: Path, *, label_map: LabelMap | None = None) -> Model:
        """Read a model folder; code in a checkpoint is never run.

        Args:
            folder: of ours, or any trained-model folder of nnU-Net v2: plans.json,
                dataset.json and fold_*/checkpoint_final.pth, which are ensembled.
            label_map: what the ids in an nnU-Net dataset.json mean; None goes by its names.

        Raises:
            DatasetError: If a file is missing, damaged, holds more than plain data, or the
                model is not one 3D network of a CT.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; a model is made by `pantskit train`")
        ours = (folder / MODEL_FILE).exists() or (folder / _RECIPE).exists()
        info = read_info(folder) if ours else None
        dataset_json = _read_json(folder / "dataset.json")
        plans_json = _read_json(folder / "plans.json")
        paths = [folder / FOLD / CHECKPOINT] if info else _fold_checkpoints(folder)
        checkpoints = [load_checkpoint(path) for path in paths]
        folds = tuple(_weights(c, path) for c, path in zip(checkpoints, paths, strict=True))
        name = info.configuration if info else _configuration_name(checkpoints[0], paths[0])
        plans = Plans(plans_json, dataset_json, name)
        plans.require_single()
        if not info and plans.n_inputs != 1:
            raise DatasetError(
                f"{folder}: the model takes {plans.n_inputs} images at once; one CT is expected"
            )
        heads = _heads(folder, info, plans, label_map)
        mirror = tuple(checkpoints[0].get("inference_allowed_mirroring_axes") or ())
        orientation = info.orientation if info else _reader_orientation(plans_json)
        mark = _joint_hash(paths, label_map)
        return cls(folder, plans, heads, orientation, folds, mirror, mark, info)

    def build(self, device: torch.device) -> torch.nn.Module:
        """The network with its weights, for prediction; of several folds, their mean.

        Raises:
            DatasetError: If the weights do not fit the plans.
        """
        from pantskit.networks.ensemble import Ensemble

        networks = []
        for weights in self.folds:
            network = self.plans.build_network()
            try:
                network.load_state_dict(weights)
            except (RuntimeError, AttributeError) as error:
                first = str(error).splitlines()[-1].strip()
                raise DatasetError(
                    f"{self.folder}: weights do not fit plans.json: {first}"
                ) from None
            networks.append(network)
        whole = networks[0] if len(networks) == 1 else Ensemble(networks)
        return whole.to(device).eval()


def _heads(folder: Path, info: ModelInfo | None, plans: Plans, label_map: LabelMap | None) -> Heads:
    if info is None:
        where = str(folder / "dataset.json")
        return heads_of_nnunet(plans.label_manager, label_map=label_map, where=where)
    heads = heads_of_channels(info.channels, regions=info.heads == "regions")
    if heads.n_channels != plans.n_channels or heads.regions != plans.label_manager.has_regions:
        raise DatasetError(
            f"{folder}: model.json names {len(info.channels)} structures ({info.heads}), "
            f"dataset.json has {plans.n_channels} channels "
            f"({'regions' if plans.label_manager.has_regions else 'softmax'}); one of them is "
            "another model's"
        )
    return heads


def _fold_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of all folds, as nnU-Net takes them: fold_all only where it is alone.

    Raises:
        DatasetError: If there is none.
    """
    found = sorted(folder.glob(f"fold_*/{CHECKPOINT}"))
    numbered = [path for path in found if path.parent.name.removeprefix("fold_").isdigit()]
    paths = numbered or [path for path in found if path.parent.name == "fold_all"]
    others = sorted({path.name for path in folder.glob("fold_*/checkpoint_*.pth")} - {CHECKPOINT})
    if not paths and others:
        raise DatasetError(
            f"{folder}: no fold has a {CHECKPOINT}, only {', '.join(others)}; end the training, or "
            f"copy the one to use as {CHECKPOINT}"
        )
    if not paths:
        raise DatasetError(
            f"{folder}: neither {MODEL_FILE} nor fold_*/{CHECKPOINT}; give the folder of a "
            "trained model, which holds plans.json, dataset.json and folds"
        )
    return paths


def _weights(checkpoint: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    try:
        return dict(checkpoint["network_weights"])
    except (KeyError, TypeError, ValueError):
        raise DatasetError(f"{path}: no network_weights; not an nnU-Net checkpoint") from None


def _configuration_name(checkpoint: dict[str, Any], path: Path) -> str:
    try:
        return str(checkpoint["init_args"]["configuration"])
    except (KeyError, TypeError):
        raise DatasetError(f"{path}: says no configuration; not an nnU-Net checkpoint") from None


def _reader_orientation(plans_json: dict[str, Any]) -> str | None:
    """What nnU-Net's reader turns images to: one of its readers does."""
    return "RAS" if plans_json.get("image_reader_writer") == "NibabelIOWithReorient" else None


def _joint_hash(paths: list[Path], label_map: LabelMap | None) -> str:
    """One hash of all folds; of a single file, its own."""
    hashes = [content_hash(path) for path in paths]
    if label_map is not None:
        hashes.append(repr(sorted(label_map.ids.items())))
    if len(hashes) == 1:
        return hashes[0]
    return blake3(" ".join(hashes).encode()).hexdigest(length=16)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's plain data and tensors; a pickle that does more is refused.

    Raises:
        DatasetError: If the file is missing, damaged, or wants to run code.
    """
    import torch

    if not path.is_file():
        raise DatasetError(f"{path}: no such file; was the training finished?")
    _require_undamaged(path)
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message is a page that says how to run it all the same.
        found = re.search(r"(?:Unsupported \w+|GLOBAL) [\w.: ]*\w", str(error))
        reason = f" ({found[0]})" if found else ""
        raise DatasetError(
            f"{path}: refused: damaged, or holds more than tensors and plain data{reason}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(
            f"{path}: damaged checkpoint ({reason}); copy or train it again"
        ) from None
    if not isinstance(checkpoint, dict):
        raise DatasetError(f"{path}: holds a {type(checkpoint).__name__}, not a checkpoint")
    return checkpoint


def _require_undamaged(path: Path) -> None:
    """Compare the bytes of a checkpoint with its own check sums, which torch does not.

    Raises:
        DatasetError: If they differ.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        return  # of an older kind, or torch says what is wrong
    if damaged is not None:
        raise DatasetError(
            f"{path}: damaged checkpoint ({damaged} is not as it was written); copy it again"
        )


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
