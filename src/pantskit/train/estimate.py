"""What a training will take, before it starts: memory counted without a GPU, time measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pantskit.core.errors import ConfigError
from pantskit.core.memory import available_memory_mb
from pantskit.networks.plans import Plans
from pantskit.networks.runtime import start_torch
from pantskit.train.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from pantskit.train.begin import Start
    from pantskit.train.trainer import RecipeTrainer

# Bytes a voxel and output channel in the loss: logits, softmax, its logarithm, one-hot target,
# gradients; an eighth more for the lower resolutions of deep supervision.
_LOSS_BYTES = 18
# Of a CUDA process itself with the kernels it loads, and of one on a CPU with its libraries.
PROCESS_MB = {"cuda": 700.0, "cpu": 500.0}
# Gradients of activations that live side by side, and workspaces, as a share of what is kept.
_TRANSIENT = 1.25
# The count is of nnU-Net's plans what they aim at (8 and 24 GB) and up to this share too high.
_TOO_HIGH = 0.15
TIMED_STEPS = 3  # the first of them is not counted
# Targets of the planner that are tried for less memory, as shares of what is free.
_SHARES = (0.9, 0.7, 0.5, 0.35, 0.2)
_SMALLEST_PATCH = 32


@dataclass(frozen=True)
class Estimate:
    """What a training will take.

    Attributes:
        memory_mb: of the GPU, or of this process on a CPU; counted.
        free_mb: of it now.
        iteration_s: one training step with its batch, as this machine does it.
        prepare_s: the cases that are left to prepare, together.
        total_s: from here to the end.
    """

    memory_mb: float
    free_mb: float
    iteration_s: float
    prepare_s: float
    total_s: float

    def describe(self) -> str:
        """For the user: `about 18 h (0.26 s an iteration, ...), 7.9 of 24.0 GB of memory`."""
        return (
            f"about {duration(self.total_s)} ({self.iteration_s:.2g} s an iteration, "
            f"{duration(self.prepare_s)} to prepare cases), "
            f"{self.memory_mb / 1024:.1f} of {self.free_mb / 1024:.1f} GB of memory"
        )


def duration(seconds: float) -> str:
    """Seconds for people: `18 h`, `4 min`, `12 s`."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def training_memory_mb(plans: Plans, recipe: Recipe, device_type: str) -> float:
    """Memory that a training step takes at its peak.

    The activations that the backward pass needs are counted on torch's meta device, which
    computes shapes and no values. In mixed precision, on a GPU, they are halves.

    Args:
        plans: patch, batch and network.
        recipe: optimiser and deep supervision.
        device_type: `"cuda"` or `"cpu"`.
    """
    deep = recipe.deep_supervision and recipe.network.deep_supervision
    network = plans.build_network(deep_supervision=deep).to("meta").train()
    batch, patch = int(plans.configuration.batch_size), plans.patch_size
    kept = activation_bytes(network, (batch, plans.n_inputs, *patch))
    if device_type == "cuda" and recipe.mixed_precision:
        kept /= 2
    parameters = 4 * sum(p.numel() for p in network.parameters())
    states = 4 if recipe.optimizer == "adamw" else 3  # themselves, gradients, moments
    voxels = batch * patch[0] * patch[1] * patch[2]
    loss = _LOSS_BYTES * voxels * plans.n_channels
    return float(states * parameters + _TRANSIENT * kept + loss) / 2**20 + PROCESS_MB[device_type]


def activation_bytes(network: torch.nn.Module, shape: tuple[int, ...]) -> float:
    """Bytes that a forward pass keeps for the backward pass, parameters left out.

    Args:
        network: on any device; on `meta` nothing is computed.
        shape: of its input.
    """
    import torch

    device = next(network.parameters()).device
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor  # alive, so that its number is not given to another
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(torch.empty(shape, device=device))
    del output
    return float(sum(tensor.untyped_storage().nbytes() for tensor in kept.values()))


def free_memory_mb(device: torch.device) -> float:
    """Memory that is free on a GPU, or that this process can still take."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0]) / 2**20
    return available_memory_mb()


def choose_preset(
    recipe: Recipe, device: str, before: Start | None, say: Callable[[str], None]
) -> Recipe:
    """The recipe with the preset of its architecture that fits, where that has several.

    A training that has begun keeps its own. Else the memory decides that the recipe names, or
    that the GPU has; without a GPU it is the smallest.

    Args:
        recipe: settings.
        device: to train on, as `start_torch` takes it.
        before: what the model's folder began with.
        say: is told the choice.
    """
    presets = recipe.network.presets
    if not presets:
        return recipe
    if before is not None and before.recipe.architecture in presets:
        name, why = before.recipe.architecture, "as this training began"
    elif recipe.gpu_memory_gb:
        name = recipe.network.preset_for(recipe.gpu_memory_gb)
        why = f"for {recipe.gpu_memory_gb:g} GB"
    else:
        memory = _gpu_memory_gb(device)
        name = recipe.network.preset_for(memory)
        why = f"for the {memory:.0f} GB of the GPU" if memory else "as there is no GPU"
    say(f"architecture {recipe.architecture}: {name}, {why}")
    return recipe.changed(architecture=name)


def _gpu_memory_gb(device: str) -> float:
    """Memory that the GPU of a device has in all; 0 without a GPU."""
    import torch

    chosen = start_torch(device)
    if chosen.type != "cuda":
        return 0.0
    return float(torch.cuda.get_device_properties(chosen).total_memory) / 2**30


def require_memory(
    plans: Plans,
    recipe: Recipe,
    device: torch.device,
    *,
    replan: Callable[[Recipe], Plans],
    processes: int = 1,
) -> tuple[float, float]:
    """Refuse a plan that does not fit into memory, with one that does.

    Args:
        plans: the plan.
        recipe: that it was made by.
        device: to train on.
        replan: makes plans by another recipe.
        processes: that train by these plans at once, which share the memory of a CPU.

    Returns:
        Memory needed and free, in MB.

    Raises:
        ConfigError: If the plan needs more than is free.
    """
    need = training_memory_mb(plans, recipe, device.type)
    free = free_memory_mb(device) / (processes if device.type == "cpu" else 1)
    if need * (1 - _TOO_HIGH) <= free:
        return need, free
    advice = "take another machine or a smaller network"
    for option, smaller in _smaller_recipes(recipe, plans, free):
        try:
            plan = replan(smaller)
        except ConfigError:  # a patch that the network does not take
            continue
        memory = training_memory_mb(plan, smaller, device.type)
        if memory <= free:
            advice = (
                f"what fits is {option}: patches of {describe_patch(plan)} voxels, batch "
                f"{plan.configuration.batch_size}, about {memory / 1024:.1f} GB"
            )
            break
    raise ConfigError(
        f"{device}: the plan needs about {need / 1024:.1f} GB, and {free / 1024:.1f} GB are free "
        f"(patches of {describe_patch(plans)} voxels, batch {plans.configuration.batch_size}, "
        f"{recipe.architecture}); {advice}"
    )


def describe_patch(plans: Plans) -> str:
    """A plan's patch along (i, j, k): `96 x 96 x 64`."""
    axes = [plans.patch_size[axis] for axis in plans.plans["transpose_backward"]]
    return " x ".join(str(n) for n in axes[::-1])


def _smaller_recipes(recipe: Recipe, plans: Plans, free_mb: float) -> Iterator[tuple[str, Recipe]]:
    """Ever less memory, each with the option that asks for it."""
    if not recipe.network.network_class and not recipe.patch_size:
        for share in _SHARES:
            target = f"{share * free_mb / 1024:.2g}"
            yield f"--gpu-memory {target}", recipe.changed(gpu_memory_gb=float(target))
        return
    patch = [plans.patch_size[axis] for axis in plans.plans["transpose_backward"]][::-1]
    while max(patch) > _SMALLEST_PATCH:
        patch = [max(min(n, _SMALLEST_PATCH), int(n * 0.8) // 16 * 16) for n in patch]
        text = ",".join(str(n) for n in patch)
        yield f"--patch {text}", recipe.changed(patch_size=tuple(patch))


def time_steps(trainer: RecipeTrainer) -> tuple[float, float]:
    """Seconds of a batch's drawing and of a training step on it.

    The trainer's weights change: it is one of its own, for this alone.

    Raises:
        ConfigError: If the GPU has not enough memory after all.
    """
    import torch

    drawing: list[float] = []
    stepping: list[float] = []
    trainer.initialize()
    batches, _ = trainer.get_dataloaders()
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.on_train_epoch_start()
    try:
        for _ in range(TIMED_STEPS):
            started = time.perf_counter()
            batch = next(batches)
            drawn = time.perf_counter()
            trainer.train_step(batch)  # it fetches the loss, which waits for the GPU
            drawing.append(drawn - started)
            stepping.append(time.perf_counter() - drawn)
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"{trainer.device}: too little memory for this plan, against the count; give a "
            "smaller --gpu-memory or --patch"
        ) from None
    return min(drawing[1:]), min(stepping[1:])
