"""Weights of a self-supervised encoder, loaded into a network that is to be trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from pantskit.core.errors import DatasetError
from pantskit.networks.folder import load_checkpoint

# What trainers and wrappers put before the encoder's own names, in any order.
_PREFIX = re.compile(
    r"^(?:module|_orig_mod|network|model|net|backbone|encoder|student|swinViT|vit)\."
)
# MONAI's self-supervised Swin was published with the names of another library's layers.
_RENAMED = ((".mlp.fc1.", ".mlp.linear1."), (".mlp.fc2.", ".mlp.linear2."))
_STATES = ("state_dict", "network_weights", "model", "model_state_dict")


def load_encoder(encoder: torch.nn.Module, path: Path) -> int:
    """Load weights into an encoder; code in the file is never run.

    What the file holds besides (heads of the pretext tasks, a decoder) is left out.

    Args:
        encoder: to load into.
        path: a checkpoint: MONAI's self-supervised Swin (`model_swinvit.pt`), or any state
            dict with the encoder's names.

    Returns:
        How many tensors of the file were left out.

    Raises:
        DatasetError: If the file cannot be read, or lacks a weight of the encoder, or has it in
            another shape.
    """
    state = _state(load_checkpoint(path), path)
    own = encoder.state_dict()
    needed = {name for name, _ in encoder.named_parameters()}
    found = {}
    for name, value in state.items():
        key = _own_name(name)
        if key in own and isinstance(value, torch.Tensor):
            found[key] = value
    missing = sorted(needed - set(found))
    if missing:
        raise DatasetError(
            f"{path}: has {len(needed) - len(missing)} of the encoder's {len(needed)} weights; "
            f"{missing[0]} is missing; give weights of the same architecture"
        )
    for name in sorted(needed):
        if found[name].shape != own[name].shape:
            raise DatasetError(
                f"{path}: {name} has shape {tuple(found[name].shape)}, the encoder's is "
                f"{tuple(own[name].shape)}; patch, features and weights must belong together"
            )
    # Buffers follow from the settings: they are the encoder's own.
    encoder.load_state_dict({name: found[name] for name in needed}, strict=False)
    return len(state) - len(needed)


def _state(checkpoint: Mapping[str, object], path: Path) -> Mapping[str, object]:
    for key in _STATES:
        inner = checkpoint.get(key)
        if isinstance(inner, Mapping):
            return inner
    if any(isinstance(value, torch.Tensor) for value in checkpoint.values()):
        return checkpoint
    raise DatasetError(f"{path}: holds no weights ({', '.join(list(checkpoint)[:5])})")


def _own_name(name: str) -> str:
    while match := _PREFIX.match(name):
        name = name[match.end() :]
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name
