"""One CT through one model, to a label map on the CT's own grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pantskit.core.errors import ConfigError, DatasetError, ImageError
from pantskit.core.geometry import Geometry
from pantskit.core.hounsfield import require_hounsfield
from pantskit.core.labels import LESION
from pantskit.core.volume import Volume
from pantskit.networks.folder import Model
from pantskit.networks.plans import Plans
from pantskit.networks.preprocessing import (
    NetworkImage,
    Resampling,
    WholeImage,
    nonzero_box,
    resampling_of,
    streams,
)
from pantskit.networks.resampling import separate_axis
from pantskit.networks.runtime import full_precision
from pantskit.predict.device_export import DeviceExporter
from pantskit.predict.export import Block, Exporter, Grids, Ring, Want
from pantskit.predict.views import network_spacing, network_view
from pantskit.predict.windows import ShortMemory, Sliding, out_of_memory

if TYPE_CHECKING:
    import torch

TUMOR_PROBABILITY = (
    "largest softmax probability of pancreatic_lesion over all voxels of the network's grid"
)


@dataclass(frozen=True)
class Shortcuts:
    """What may be left out or computed otherwise than nnU-Net does; by default nothing.

    Attributes:
        step: distance of windows as a share of the patch; nnU-Net's is 0.5.
        skip_air: leave out windows without tissue; their voxels become background.
        bf16: compute in bfloat16.
        compile: run the network compiled; sums are rounded otherwise.
        mirror_axes: of the axes (0 to 2) that the model was trained with flips along, those to
            flip along; None for all.
    """

    step: float = 0.5
    skip_air: bool = False
    bf16: bool = False
    compile: bool = False
    mirror_axes: tuple[int, ...] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Those that are taken, as options of the command."""
        taken = {
            "--step": self.step != Shortcuts.step,
            "--skip-air": self.skip_air,
            "--bf16": self.bf16,
            "--compile": self.compile,
            "--mirror-axes": self.mirror_axes is not None,
        }
        return tuple(name for name, is_taken in taken.items() if is_taken)

    def require_known_to(self, model: Model) -> None:
        """Refuse flips that the model was not trained with.

        Raises:
            ConfigError: If one is asked for.
        """
        own = model.mirror_axes
        if self.mirror_axes is not None and not set(self.mirror_axes) <= set(own):
            raise ConfigError(
                f"--mirror-axes {_listed(self.mirror_axes)}: {model.folder} was trained with flips "
                f"along {_listed(own) or 'no axis'}; give some of these, or --no-mirror"
            )


def parse_axes(text: str) -> tuple[int, ...]:
    """Axes as the command takes them: `0,2`.

    Raises:
        ConfigError: If they are anything but different numbers from 0 to 2.
    """
    parts = [part.strip() for part in text.split(",")]
    if not set(parts) <= {"0", "1", "2"} or len(set(parts)) < len(parts):
        raise ConfigError(
            f"--mirror-axes {text}: axes of the network's input are expected, as nnU-Net numbers "
            "them: 0, 1, 2 or some of them, with commas"
        )
    return tuple(sorted(map(int, parts)))


def _listed(axes: Sequence[int]) -> str:
    return ",".join(map(str, axes))


@dataclass(frozen=True)
class Prediction:
    """The answer for one CT.

    Attributes:
        labels: uint8 ids of the label space `pants`, on the CT's own grid.
        tumor_probability: see `TUMOR_PROBABILITY`; None where the model knows no lesion.
        windows_shape: voxels of the CT on the network's grid.
        probabilities: structure to float32 probabilities in [0, 1], on the CT's own grid.
        entropy: float32 entropy of the answer in nats, on the CT's own grid; 0 is sure.
        windows: how many windows were computed.
        skipped: how many were left out.
        precision: the type in which the network computed.
        compiled: whether it ran compiled.
        notes: what had to be changed on the way, as a smaller batch.
    """

    labels: Volume
    tumor_probability: float | None
    windows_shape: tuple[int, int, int]
    probabilities: Mapping[str, Volume] = field(default_factory=dict)
    entropy: Volume | None = None
    windows: int = 0
    skipped: int = 0
    precision: str = "float32"
    compiled: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ready:
    """A CT that waits for its network.

    Attributes:
        image: HU.
        source: its values on the network's grid.
        spacing: mm along the network's axes.
    """

    image: Volume
    source: NetworkImage | WholeImage
    spacing: list[float]


def prepare(
    model: Model,
    image: Volume,
    *,
    device: torch.device,
    spacing: Sequence[float] | None = None,
) -> Ready:
    """Do what needs no network: checks, cropping, and preprocessing where it is not streamed.

    Args:
        model: the network's model.
        image: HU.
        device: where the network will run.
        spacing: mm along (i, j, k) as the file's header says them; None takes the affine's.

    Raises:
        ImageError: If values are not HU, or the CT is thinner than half a voxel of the network.
    """
    require_hounsfield(image)
    view = network_view(image.array, image.geometry, model)
    along = network_spacing(spacing or image.geometry.spacing, image.geometry, model)
    _require_extent(view, along, model.plans)
    kind = NetworkImage if streams(model.plans) else WholeImage
    return Ready(image, kind(view, along, model.plans, device), along)


def predict_volume(
    model: Model,
    network: torch.nn.Module,
    image: Volume | Ready,
    *,
    device: torch.device,
    mirror: bool = True,
    threads: int = 1,
    batch: int = 1,
    shortcuts: Shortcuts | None = None,
    exact: bool = False,
    probabilities: Sequence[str] = (),
    entropy: bool = False,
) -> Prediction:
    """Segment a CT in any orientation.

    Logits exist for the depth of one window along the scan only; memory beside the CT and the
    answer does not grow with the scan's length.

    Args:
        model: the network's model.
        network: `model.build(device)`, or that compiled.
        image: HU, or what `prepare` made of it.
        device: where the network runs.
        mirror: average over the flips that the model was trained with.
        threads: of the export on a CPU.
        batch: windows computed at once; halved where memory is short.
        shortcuts: None computes what nnU-Net computes.
        exact: compute in float32 on a GPU, too.
        probabilities: structures whose probability is asked; 4 bytes a voxel each.
        entropy: whether the answer's entropy is asked, 4 bytes a voxel.

    Raises:
        ImageError: As `prepare`, or if the network's answer is not finite.
        ShortMemory: If memory is too short for one window.
        DatasetError: If the plans resample probabilities in a way that is not known here, or
            the model does not know a structure whose probability is asked.
    """
    asked = _Asked(
        mirror=mirror, threads=threads, batch=batch, shortcuts=shortcuts or Shortcuts(),
        exact=exact, probabilities=tuple(probabilities), entropy=entropy,
    )  # fmt: skip
    ready = prepare(model, image, device=device) if isinstance(image, Volume) else image
    notes: tuple[str, ...] = ()
    for sums_on in _places_of_sums(device):
        try:
            found = _predicted(model, network, ready, device, sums_on, asked)
        except (RuntimeError, MemoryError, ShortMemory) as error:
            if not out_of_memory(error):
                raise
            short = str(error) if isinstance(error, ShortMemory) else _SHORT
        else:
            return replace(found, notes=(*notes, *found.notes))
        # Here, as the exception held on to what had been allocated.
        if device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
        notes = ("out of memory: logits were summed on the host",)
    raise ShortMemory(short)


_SHORT = "out of memory; free memory, ask for a smaller --batch or use --device cpu"


def _places_of_sums(device: torch.device) -> list[torch.device]:
    """Where logits are summed: on the device, and on the host where its memory is too short."""
    import torch

    return [device] if device.type == "cpu" else [device, torch.device("cpu")]


@dataclass(frozen=True)
class _Asked:
    """What `predict_volume` is asked for."""

    mirror: bool
    threads: int
    batch: int
    shortcuts: Shortcuts
    exact: bool
    probabilities: tuple[str, ...]
    entropy: bool


def _predicted(
    model: Model,
    network: torch.nn.Module,
    ready: Ready,
    device: torch.device,
    sums_on: torch.device,
    asked: _Asked,
) -> Prediction:
    from pantskit.networks.compiled import Compiled

    plans, heads, source, geometry = model.plans, model.heads, ready.source, ready.image.geometry
    compiled = network if isinstance(network, Compiled) else None
    chosen = asked.shortcuts.mirror_axes
    axes = [a for a in model.mirror_axes if asked.mirror and (chosen is None or a in chosen)]
    sliding = Sliding(
        plans.patch_size,
        heads.n_channels,
        device,
        sums_on,
        mirror_axes=tuple(axes),
        step=asked.shortcuts.step,
        batch=asked.batch,
        skip_air=asked.shortcuts.skip_air,
        bf16=asked.shortcuts.bf16,
        exact=asked.exact,
        fixed=compiled is not None,
    )
    if sliding.skip_air and source.air is None:
        sliding.notes.append("skip-air: these plans do not tell air; every window was computed")
    want = Want(
        heads.channels_of(LESION) if LESION in heads.structures else (),
        tuple(model.require_known(structure) for structure in asked.probabilities),
        asked.entropy,
    )
    nearest = _nearest(plans, ready.spacing)
    grids = Grids(sliding.padding(source.shape)[1], source.shape, source.cropped, nearest)
    if asked.exact and device.type == "cuda":
        sliding.notes.append("exact: float32 without TF32 in place of half precision")
    answer = _Answer(geometry, model, source.box, want)
    with full_precision() if asked.exact else nullcontext():
        score = _export(sliding, network, source, grids, model, want, asked.threads, answer)
    if compiled is not None and compiled.why_not:
        sliding.notes.append(compiled.why_not)
    return Prediction(
        Volume(answer.labels, geometry),
        score if want.score else None,
        source.shape,
        dict(zip(asked.probabilities, answer.volumes(), strict=True)),
        None if answer.entropy is None else Volume(answer.entropy, geometry),
        sliding.computed,
        sliding.skipped,
        sliding.precision,
        compiled is not None and not compiled.why_not,
        tuple(sliding.notes),
    )


def _export(
    sliding: Sliding,
    network: torch.nn.Module,
    source: NetworkImage | WholeImage,
    grids: Grids,
    model: Model,
    want: Want,
    threads: int,
    answer: _Answer,
) -> float:
    """Run windows and export what they finish; returns the case's score."""
    table, regions = model.heads.table, model.heads.regions
    exporter: Exporter | DeviceExporter | None = None
    for ring, finished in sliding.rows(network, source):
        compiled = on_host(ring)
        if exporter is None and compiled:
            exporter = Exporter(grids, table=table, regions=regions, want=want, threads=threads)
        elif exporter is None:
            exporter = DeviceExporter(grids, table=table, regions=regions, want=want)
        if compiled:
            ring = Ring(ring.logits.numpy(), ring.weight.numpy())
        block = exporter.push(ring, finished)
        if block is not None:
            answer.place(block)
    assert exporter is not None
    return exporter.score


def on_host(ring: Ring) -> bool:
    """Whether logits lie in memory that the compiled export can read."""
    return bool(ring.logits.device.type == "cpu")


class _Answer:
    """The CT's own grid, filled by slices of the network's axes.

    Attributes:
        labels: (i, j, k) uint8.
        entropy: (i, j, k) float32, or None.
    """

    def __init__(
        self, geometry: Geometry, model: Model, box: tuple[slice, slice, slice], want: Want
    ) -> None:
        shape = geometry.shape
        self._geometry, self._box = geometry, box
        self.labels: NDArray[np.uint8] = np.zeros(shape, np.uint8, order="F")
        self._chances = [np.zeros(shape, np.float32, order="F") for _ in want.chances]
        self.entropy = np.zeros(shape, np.float32, order="F") if want.entropy else None
        arrays: list[NDArray[Any]] = [self.labels, *self._chances]
        if self.entropy is not None:
            arrays.append(self.entropy)
        self._views = [network_view(array, geometry, model)[box] for array in arrays]

    def place(self, block: Block) -> None:
        """Write finished slices."""
        part = slice(block.start, block.start + len(block.labels))
        values: list[NDArray[Any]] = [block.labels, *block.chances]
        if block.entropy is not None:
            values.append(block.entropy)
        for view, value in zip(self._views, values, strict=True):
            view[part] = value

    def volumes(self) -> list[Volume]:
        """The probabilities."""
        return [Volume(array, self._geometry) for array in self._chances]


def _require_extent(view: NDArray[Any], spacing: Sequence[float], plans: Plans) -> None:
    """Refuse a CT of which no voxel would be left on the network's grid, its crop included."""
    target = plans.configuration.spacing
    shape = [s.stop - s.start for s in nonzero_box(view)]
    mm = [n * s for n, s in zip(shape, spacing, strict=True)]
    thin = [(a, b) for a, b in zip(mm, target, strict=True) if round(a / b) < 1]
    if thin:
        what = "the CT" if tuple(shape) == view.shape else "what is not 0 of the CT"
        raise ImageError(
            f"{what} is {thin[0][0]:.3g} mm thick and a voxel of the network "
            f"{thin[0][1]:.3g} mm; give a whole scan"
        )


def _nearest(plans: Plans, spacing: Sequence[float]) -> int | None:
    """The axis whose logits are taken from the nearest slice."""
    way = require_way_back(plans)
    return separate_axis(plans.configuration.spacing, spacing, way.force_separate)


def require_way_back(plans: Plans) -> Resampling:
    """How the plans resample logits to the CT's grid.

    Raises:
        DatasetError: If that is not known here.
    """
    way = resampling_of(plans, "probabilities")
    if way is None or way.order != 1:
        raise DatasetError(
            "the plans resample probabilities in a way that is not supported; linear "
            "interpolation (order 1, order_z 0) is"
        )
    return way
