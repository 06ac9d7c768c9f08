"""Eight abdominal organs by a small pretrained network, as a model of one's own.

    pantskit predict examples/obelisk/model.py CT --weights WEIGHTS --out PREDICTIONS

WEIGHTS is a folder with the pretrained `obeliskhybrid_tcia_fold*.pth` of
github.com/mattiaspaul/OBELISK (MIT licence), of which none is part of this project. All folds
found are averaged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from network import INPUT_SHAPE, Obelisk
from torch.nn import functional as F  # noqa: N812

from pantskit.core.volume import Volume

LABELS = {
    1: "spleen",
    2: "pancreas",
    3: "kidney_left",
    4: "gall_bladder",
    5: None,  # the oesophagus is none of the 28
    6: "liver",
    7: "stomach",
    8: "duodenum",
}
ORIENTATION = (
    "LAI"  # the network's axes: right to left, posterior to anterior, superior to inferior
)
HU_WINDOW = (-1024, 3071)

PATTERN = "obeliskhybrid_tcia_fold*.pth"
BODY_HU = -200.0


def load(folder: Path, device: str) -> list[Obelisk]:
    """The networks of all folds in the folder; a checkpoint's code is never run."""
    files = sorted(folder.glob(PATTERN))
    if not files:
        raise FileNotFoundError(f"no {PATTERN} in {folder}; give their folder with --weights")
    networks = []
    for file in files:
        network = Obelisk()
        network.load_pretrained(torch.load(file, map_location="cpu", weights_only=True))
        networks.append(network.to(device).eval())
    return networks


@torch.inference_mode()
def predict(networks: list[Obelisk], volume: Volume) -> np.ndarray:
    """Label map of the abdomen's box; what lies outside is background."""
    box = abdomen(volume)
    crop = torch.from_numpy(np.ascontiguousarray(volume.array[box]))[None, None]
    image = F.interpolate(crop, size=INPUT_SHAPE, mode="trilinear", align_corners=False)
    image = image.to(next(networks[0].parameters()).device) / 1024 + 1
    mean = sum(network(image).softmax(dim=1) for network in networks)
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[box] = _largest(mean.cpu(), crop.shape[2:])
    return labels


def abdomen(volume: Volume) -> tuple[slice, slice, slice]:
    """The box that the network was trained on: the organs' reach within the body.

    The network has seen boxes drawn around the organs by hand: some 290 mm wide, 220 mm deep
    and 190 mm high. Here it is the body without the wall of trunk and back; a scan that is
    much higher than an abdomen must be cut to it beforehand.
    """
    soft = volume.array > BODY_HU
    across = np.flatnonzero(_within(soft.mean(axis=(1, 2))))
    depth = np.flatnonzero(_within(soft.mean(axis=(0, 2))))
    x0, x1 = int(across[0]), int(across[-1]) + 1
    y0, y1 = int(depth[0]), int(depth[-1]) + 1  # from the back
    side, back, front = 0.07 * (x1 - x0), 0.16 * (y1 - y0), 0.04 * (y1 - y0)
    return (
        slice(round(x0 + side), round(x1 - side)),
        slice(round(y0 + back), round(y1 - front)),
        slice(0, volume.array.shape[2]),
    )


def _within(profile: np.ndarray) -> np.ndarray:
    """Where there is body, and more than a table or an arm."""
    return profile > 0.25 * profile.max()


def _largest(shares: torch.Tensor, shape: torch.Size) -> np.ndarray:
    """Label of the largest share on a finer grid, a channel at a time."""
    best = torch.full(tuple(shape), -1.0)
    labels = torch.zeros(tuple(shape), dtype=torch.uint8)
    for channel in range(shares.shape[1]):
        part = shares[:, channel : channel + 1]
        fine = F.interpolate(part, size=shape, mode="trilinear", align_corners=False)[0, 0]
        better = fine > best
        best[better], labels[better] = fine[better], channel
    return labels.numpy()
