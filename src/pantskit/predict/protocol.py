"""A model of one's own: a Python file with two functions, and what it says about itself.

    LABELS = {1: "spleen", 2: "pancreas", 3: None}      # None: has no place among the 28
    ORIENTATION, SPACING, HU_WINDOW = "LAI", None, None  # what `predict` is given; these are
                                                         # the defaults
    def load(folder, device): ...                        # -> anything
    def predict(model, volume): ...                      # -> label map or logits

The file is code and is run with the rights of who runs it, unlike a checkpoint, which never is.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ConfigError, GeometryError, LabelError, PantskitError
from pantskit.core.files import content_hash
from pantskit.core.geometry import STANDARD_ORIENTATION, Geometry
from pantskit.core.hounsfield import require_hounsfield
from pantskit.core.labels import LESION, PANTS, STRUCTURES, require_structure
from pantskit.core.volume import Volume, resample_nearest
from pantskit.predict.export import resample_argmax

MODEL_MODULE = "model.py"
_SETTINGS = ("LABELS", "ORIENTATION", "SPACING", "HU_WINDOW")


@dataclass(frozen=True)
class Declaration:
    """What the file says its `predict` takes and gives.

    Attributes:
        labels: id of a label map, or channel of logits, to structure; None where it is none of
            the 28, and its voxels become background. 0 is background.
        orientation: where each axis of the array points, as nibabel codes.
        spacing: mm along (i, j, k) of that orientation, as near as whole voxels allow; None for
            the CT's own.
        hu_window: HU that values are clipped to; None for no clipping.
    """

    labels: Mapping[int, str | None]
    orientation: str = STANDARD_ORIENTATION
    spacing: tuple[float, float, float] | None = None
    hu_window: tuple[float, float] | None = None

    @property
    def structures(self) -> tuple[str, ...]:
        """Structures that a prediction speaks of, in the order of the 28."""
        named = set(self.labels.values())
        return tuple(s for s in STRUCTURES if s in named)


@dataclass(frozen=True)
class OwnAnswer:
    """A model's answer for one CT.

    Attributes:
        labels: uint8 ids of the label space `pants`, on the CT's own grid.
        tumor_probability: largest softmax probability of the lesion's channel over the voxels
            that the model was given; None where there are no logits or no such channel.
    """

    labels: Volume
    tumor_probability: float | None


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A loaded model of one's own.

    Attributes:
        file: the Python file.
        declared: what it says of itself.
        content: `identify(file, weights)`.
    """

    file: Path
    declared: Declaration
    content: str
    _model: Any
    _predict: Callable[[Any, Volume], Any]

    @classmethod
    def load(cls, path: Path, *, weights: Path | None = None, device: str = "cpu") -> OwnModel:
        """Import the file and call its `load`.

        Args:
            path: the file, or a folder with a `model.py`.
            weights: the folder that `load` is given; the file's own when None.
            device: `"cpu"` or `"cuda"`, handed on to `load`.

        Raises:
            ConfigError: If the file is missing, cannot be imported, lacks a function, declares
                what cannot be, or its `load` raises.
        """
        file = own_model_file(path)
        if file is None:
            raise ConfigError(f"{path}: no Python file, and no folder with a {MODEL_MODULE}")
        module = _imported(file)
        load, predict = (_function(module, file, name) for name in ("load", "predict"))
        declared = declaration(vars(module), str(file))
        folder = _weights_folder(file, weights)
        model = _run(file, "load", lambda: load(folder, device))
        return cls(file, declared, identify(file, weights), model, predict)

    def answer(self, image: Volume, *, threads: int = 1) -> OwnAnswer:
        """Segment a CT in any orientation.

        Args:
            image: HU.
            threads: that share the way back from another spacing.

        Raises:
            ImageError: If values are not HU.
            ConfigError: If `predict` raises, or gives no label map and no logits.
            LabelError: If its label map holds ids that it does not declare.
        """
        require_hounsfield(image)
        given = as_declared(image, self.declared)
        found = _run(self.file, "predict", lambda: self._predict(self._model, given))
        array = _as_array(found)
        table = _table(self.declared)
        name = str(self.file)
        if array.ndim == 4:
            _require_logits(array, given, len(table), name)
            probability = _largest_probability(array, self.declared)
            back = image.reoriented(self.declared.orientation).geometry
            channels = resample_argmax(array, back.shape, threads=threads)
            labels = Volume(table[channels], back)
        else:
            _require_labels(array, given, self.declared, name)
            probability = None
            labels = Volume(table[array], given.geometry)
            if self.declared.spacing is not None:
                back = image.reoriented(self.declared.orientation).geometry
                labels = resample_nearest(labels, back)
        turned = labels.reoriented(image.geometry.orientation).array
        return OwnAnswer(Volume(np.asfortranarray(turned), image.geometry), probability)


def own_model_file(path: Path) -> Path | None:
    """The Python file of a model of one's own; None where the path is something else.

    A folder that is a trained model's (with plans.json or model.json) is none.
    """
    path = Path(path)
    if path.suffix == ".py":
        return path
    inside = path / MODEL_MODULE
    trained = any((path / name).is_file() for name in ("model.json", "plans.json"))
    return inside if inside.is_file() and not trained else None


def identify(file: Path, weights: Path | None = None) -> str:
    """A hash of the model's code and weights: every file of both folders but hidden ones.

    Raises:
        ConfigError: If the file or folder is missing.
    """
    from blake3 import blake3

    if not file.is_file():
        raise ConfigError(f"{file}: no such file; give a Python file with load and predict")
    folder = _weights_folder(file, weights)
    files = {file, *file.parent.glob("*.py"), *(p for p in folder.rglob("*") if p.is_file())}
    digest = blake3()
    for path in sorted(files):
        if not any(part.startswith((".", "__")) for part in path.parts[len(folder.parts) :]):
            digest.update(f"{path.name}\0{content_hash(path)}\0".encode())
    return digest.hexdigest()


def declared_in(file: Path) -> Declaration:
    """What a model's file declares, without loading the model.

    Raises:
        ConfigError: As `OwnModel.load`.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; give a Python file with load and predict")
    return declaration(vars(_imported(file)), str(file))


def declaration(values: Mapping[str, Any], name: str) -> Declaration:
    """Check what a module declares.

    Args:
        values: its globals; LABELS, ORIENTATION, SPACING and HU_WINDOW are looked at.
        name: of the file, for messages.

    Raises:
        ConfigError: If LABELS is missing or a value cannot be used.
    """
    given = {key: values[key] for key in _SETTINGS if values.get(key) is not None}
    labels = given.get("LABELS")
    if not isinstance(labels, Mapping) or not labels:
        raise ConfigError(f'{name}: declares no LABELS, as LABELS = {{1: "liver", 2: None}}')
    known: dict[int, str | None] = {}
    try:
        for number, structure in labels.items():
            if not isinstance(number, int) or not 1 <= number <= 255:
                raise ConfigError(f"{name}: LABELS: {number!r} is no id from 1 to 255")
            known[number] = None if structure is None else require_structure(str(structure))
        spacing, window = given.get("SPACING"), given.get("HU_WINDOW")
        declared = Declaration(
            known,
            str(given.get("ORIENTATION", STANDARD_ORIENTATION)),
            None if spacing is None else _numbers(spacing, 3),
            None if window is None else _numbers(window, 2),
        )
        unit = Geometry.from_spacing((1, 1, 1), declared.spacing or (1.0, 1.0, 1.0))
        unit.axis_map(declared.orientation)
        unit.require_plausible("SPACING")
    except LabelError as error:
        raise ConfigError(f"{name}: LABELS: {error}; None means that it is none of them") from None
    except (GeometryError, TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from None
    if declared.hu_window and declared.hu_window[0] >= declared.hu_window[1]:
        raise ConfigError(f"{name}: HU_WINDOW {declared.hu_window} is empty; it is (low, high)")
    if not declared.structures:
        raise ConfigError(f"{name}: LABELS names none of the 28 structures")
    return declared


def as_declared(image: Volume, declared: Declaration) -> Volume:
    """A CT as a model wants it: float32 HU, turned, clipped and resampled as declared.

    Another spacing is reached by linear interpolation on a grid of whole voxels over the same
    extent, whose outer faces are the CT's.
    """
    turned = image.reoriented(declared.orientation)
    array = np.asfortranarray(turned.array, dtype=np.float32)
    if declared.hu_window is not None:
        array = np.clip(array, *declared.hu_window)
    if declared.spacing is None:
        return Volume(array, turned.geometry)
    from scipy.ndimage import zoom

    old = turned.geometry
    shape = [max(1, round(e / s)) for e, s in zip(old.extent_mm, declared.spacing, strict=True)]
    ratio = np.array(old.shape) / shape  # old voxels a new one
    affine = old.affine.copy()
    affine[:3, :3] *= ratio
    affine[:3, 3] = old.to_world(0.5 * ratio - 0.5)
    geometry = Geometry((shape[0], shape[1], shape[2]), affine)
    array = zoom(array, 1 / ratio, order=1, mode="nearest", grid_mode=True)
    return Volume(np.asfortranarray(array), geometry)


def _numbers(values: Any, count: int) -> Any:
    numbers = tuple(float(v) for v in values)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{values!r} is not {count} numbers")
    return numbers


def _weights_folder(file: Path, weights: Path | None) -> Path:
    folder = file.parent if weights is None else Path(weights)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of weights")
    return folder.absolute()


def _imported(file: Path) -> ModuleType:
    """The file as a module; modules that lie beside it are found, as when it is run."""
    spec = importlib.util.spec_from_file_location(f"pantskit_own_model_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    loader = spec.loader
    sys.path.insert(0, str(file.absolute().parent))
    try:
        _run(file, "importing it", lambda: loader.exec_module(module))
    finally:
        sys.path.pop(0)
    return module


def _function(module: ModuleType, file: Path, name: str) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(
            f"{file}: has no function {name}; load(folder, device) and predict(model, volume) "
            "are expected"
        )
    called: Callable[..., Any] = found
    return called


def _run(file: Path, what: str, call: Callable[[], Any]) -> Any:
    """Call code that is not ours; whatever it raises becomes a line that says where."""
    try:
        return call()
    except PantskitError:
        raise
    except Exception as error:
        lines = [
            str(frame.lineno)
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).absolute() == file.absolute()
        ]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
        where = f", line {line or lines[-1]}" if line or lines else ""
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{file.name}: {what} raised {type(error).__name__}{where}: {reason}"
        ) from error


def _as_array(found: Any) -> NDArray[Any]:
    """A NumPy array of an array or tensor, on whatever device and with whatever gradient."""
    for step in ("detach", "cpu"):
        if hasattr(found, step):
            found = getattr(found, step)()
    return np.asarray(found)


def _table(declared: Declaration) -> NDArray[np.uint8]:
    """Id in the space `pants` of each id or channel of the model."""
    table = np.zeros(max(declared.labels) + 1, np.uint8)
    for number, structure in declared.labels.items():
        table[number] = 0 if structure is None else PANTS.id_of(structure)
    return table


def _require_labels(array: NDArray[Any], given: Volume, declared: Declaration, name: str) -> None:
    if array.shape != given.array.shape or array.dtype.kind not in "iu":
        raise ConfigError(
            f"{name}: predict gave {array.dtype} of shape {array.shape}; expected an integer "
            f"label map of shape {given.array.shape}, or logits with a channel in front"
        )
    values = np.unique(array).tolist()
    unknown = [v for v in values if v and v not in declared.labels]
    if unknown:
        raise LabelError(f"{name}: predict gave labels {unknown[:8]}, which LABELS does not name")


def _require_logits(array: NDArray[Any], given: Volume, channels: int, name: str) -> None:
    expected = (channels, *given.array.shape)
    if array.shape != expected or array.dtype.kind != "f":
        raise ConfigError(
            f"{name}: predict gave {array.dtype} of shape {array.shape}; logits are {expected} "
            "floats, channel 0 the background"
        )
    if not np.isfinite(array).all():
        raise ConfigError(f"{name}: predict gave logits that are not finite")


def _largest_probability(logits: NDArray[Any], declared: Declaration) -> float | None:
    channels = [c for c, s in declared.labels.items() if s == LESION]
    if not channels:
        return None
    largest = 0.0
    for k in range(logits.shape[3]):  # a slice at a time: no second copy of the logits
        part = logits[..., k].astype(np.float32)
        part = np.exp(part - part.max(axis=0))
        largest = max(largest, float((part[channels].sum(axis=0) / part.sum(axis=0)).max()))
    return largest
