"""A model of one's own: a Python file with two functions, and what it says about itself.

    LABELS = {1: "spleen", 2: "pancreas", 3: None}      # None: has no place among the 28
    ORIENTATION, SPACING, HU_WINDOW = "LAI", None, None  # what `predict` is given; these are
                                                         # the defaults
    LOGITS, MIRROR_AXES = False, ()                      # what it gives, and may be flipped along
    def load(folder, device): ...                        # -> anything
    def predict(model, volume): ...                      # -> label map or logits

The file is code and is run with the rights of who runs it, unlike a checkpoint, which never is.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ConfigError, PantskitError
from pantskit.core.files import content_hash
from pantskit.core.volume import Volume
from pantskit.predict.declaration import Declaration, as_declared, declaration
from pantskit.predict.own_answer import OwnAnswer, as_array, require_logits, told

MODEL_MODULE = "model.py"
_FUNCTIONS = ("load", "predict")
# What lies beside a model and is none: scans, predictions, what a run says. Folders of ours are
# told by what they hold.
_NO_WEIGHTS = (".nii", ".nii.gz", ".dcm", ".log")
_OURS = ".pantskit"


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
        load, predict = (_function(module, file, name) for name in _FUNCTIONS)
        declared = declaration(vars(module), str(file))
        folder = _weights_folder(file, weights)
        model = _run(file, "load", lambda: load(folder, device))
        return cls(file, declared, identify(file, weights), model, predict)

    def answer(
        self,
        image: Volume,
        *,
        threads: int = 1,
        mirror: bool = True,
        probabilities: Sequence[str] = (),
        entropy: bool = False,
    ) -> OwnAnswer:
        """Segment a CT in any orientation.

        Args:
            image: HU.
            threads: that share the way back from another spacing.
            mirror: average logits over the flips that the file declares.
            probabilities, entropy: what is asked beside labels, of logits only.

        Raises:
            ImageError: If values are not HU.
            ConfigError: If `predict` raises, or gives no label map and no logits.
            LabelError: If its label map holds ids that it does not declare.
        """
        given = as_declared(image, self.declared)
        found = self.compute(given, mirror=mirror)
        return told(
            found, image, given, self.declared, str(self.file),
            threads=threads, probabilities=probabilities, entropy=entropy,
        )  # fmt: skip

    def compute(self, given: Volume, *, mirror: bool = True) -> NDArray[Any]:
        """What `predict` gives, averaged over flips; checked only as far as that needs.

        Args:
            given: as `as_declared` makes it.
            mirror: average logits over the flips that the file declares.

        Raises:
            ConfigError: If `predict` raises, or a label map comes where logits were promised.
        """
        axes = self.declared.mirror_axes if mirror else ()
        flips = [f for n in range(len(axes) + 1) for f in combinations(axes, n)]
        total: NDArray[Any] | None = None
        for flip in flips:
            # A copy each: models normalise in place.
            turned = given.with_array(np.flip(given.array, flip).copy(order="F"))
            array = self._called(turned)
            if len(flips) == 1:
                return array
            require_logits(array, given, self.declared, str(self.file))
            array = np.flip(array, tuple(axis + 1 for axis in flip)).astype(np.float32)
            total = array if total is None else np.add(total, array, out=total)
        assert total is not None
        total /= len(flips)
        return total

    def _called(self, volume: Volume) -> NDArray[Any]:
        array: NDArray[Any] = _run(
            self.file, "predict", lambda: as_array(self._predict(self._model, volume))
        )
        if self.declared.logits and array.ndim != 4:
            raise ConfigError(
                f"{self.file}: promises LOGITS and predict gave {array.dtype} of shape "
                f"{array.shape}; expected (c, i, j, k) floats"
            )
        return array


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
    """A hash of the model's code and weights.

    The Python files beside it and every file of the weights' folder count, but hidden ones and
    folders of pantskit (datasets, predictions, scores). Where no such folder is named, the
    file's own is one, and may be where people work: there images and logs do not count either.

    Raises:
        ConfigError: If the file or folder is missing.
    """
    from blake3 import blake3

    if not file.is_file():
        raise ConfigError(f"{file}: no such file; give a Python file with load and predict")
    folder = _weights_folder(file, weights)
    left_out = () if weights is not None else _NO_WEIGHTS
    files = {file, *file.parent.glob("*.py"), *_weights_in(folder, left_out)}
    digest = blake3()
    for path in sorted(files):
        digest.update(f"{path.name}\0{content_hash(path)}\0".encode())
    return digest.hexdigest()


def _weights_in(folder: Path, left_out: tuple[str, ...]) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__")) and not Path(where, name, _OURS).is_dir()
        ]
        for name in names:
            path = Path(where, name)
            if not name.startswith((".", "__")) and not name.endswith(left_out) and path.is_file():
                yield path


def declared_in(file: Path) -> Declaration:
    """What a model's file declares, without loading the model; its functions must be there.

    Raises:
        ConfigError: As `OwnModel.load`.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; give a Python file with load and predict")
    module = _imported(file)
    for name in _FUNCTIONS:
        _function(module, file, name)
    return declaration(vars(module), str(file))


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
    # Where dataclasses and pickles look for what the module defines.
    sys.modules[spec.name] = module
    beside = str(file.absolute().parent)
    sys.path.insert(0, beside)
    try:
        _run(file, "importing it", lambda: loader.exec_module(module))
    finally:
        with suppress(ValueError):
            sys.path.remove(beside)
        # Last, so that it hides nothing: `load` and `predict` may import from there as well.
        if beside not in sys.path:
            sys.path.append(beside)
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
    """Call code that is not ours; whatever it raises becomes a line that says where.

    What it prints goes to standard error: standard output is for results.
    """
    try:
        with redirect_stdout(sys.stderr):
            return call()
    except PantskitError:
        raise
    except (Exception, SystemExit) as error:
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
