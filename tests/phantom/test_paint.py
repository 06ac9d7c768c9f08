"""CTs painted from label maps: a made-up one, and the two real PanTS label sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from typer.testing import CliRunner

from pantskit.cli.app import app
from pantskit.core.dataset import Dataset
from pantskit.core.errors import LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.labels import LESION, STRUCTURES, Mask
from pantskit.core.labelsources import open_label_source
from pantskit.core.volume import read_volume
from pantskit.phantom.case import PhantomCase
from pantskit.phantom.paint import paint


def thinned(mask: Mask, step: tuple[int, int, int]) -> Mask:
    return np.asfortranarray(mask[:: step[0], :: step[1], :: step[2]])


def coarser(geometry: Geometry, step: tuple[int, int, int]) -> Geometry:
    affine = geometry.affine.copy()
    affine[:3, :3] = affine[:3, :3] * np.array(step)
    i, j, k = (-(-n // s) for n, s in zip(geometry.shape, step, strict=True))
    return Geometry((i, j, k), affine)


def test_painted_phantom_has_its_organs_and_air_around_it(
    tumour_cases: list[PhantomCase],
) -> None:
    case = tumour_cases[0]
    masks = {name: case.mask(name) for name in STRUCTURES}
    hu = paint(masks, case.geometry, "portal_venous", np.random.default_rng(0))
    assert hu.dtype == np.int16
    assert hu.shape == case.geometry.shape
    for name in ("liver", "spleen", "kidney_left", "lung_right", "aorta"):
        low, high = STRUCTURES[name].hu_portal_venous
        assert low <= hu[masks[name]].mean() <= high
    corner = hu[:4, :4].mean()
    assert corner < -900
    inside = np.zeros(case.geometry.shape, dtype=bool)
    for mask in masks.values():
        inside |= mask
    bare = hu[~inside]
    assert 0.15 < ((bare > -150) & (bare < 120)).mean() < 0.9  # fat and muscle around them
    assert (bare > 250).sum() > 500  # bones


def test_same_seed_paints_the_same_ct(tumour_cases: list[PhantomCase]) -> None:
    case = tumour_cases[1]
    masks = {"liver": case.mask("liver"), "aorta": case.mask("aorta")}
    a, b = (paint(masks, case.geometry, "arterial", np.random.default_rng(3)) for _ in range(2))
    assert (a == b).all()


def test_nothing_to_paint_is_refused(tumour_cases: list[PhantomCase]) -> None:
    geometry = tumour_cases[0].geometry
    empty = np.zeros(geometry.shape, dtype=bool)
    with pytest.raises(LabelError, match="no structure has a voxel"):
        paint({"liver": empty}, geometry, "arterial", np.random.default_rng(0))
    with pytest.raises(LabelError, match="brain"):
        paint({"brain": ~empty}, geometry, "arterial", np.random.default_rng(0))


SHOWN = (
    *("liver", "spleen", "kidney_right", "aorta", "pancreas", "lung_left", "lung_right"),
    *("postcava", "stomach", "colon", "pancreas_tail", LESION),
)


@pytest.mark.parametrize("name", ["PanTS_00000001", "PanTS_00000035"])
def test_real_label_sets_become_cts(shared_data: Path, name: str) -> None:
    """A dozen structures on every third voxel in the plane, so that the test stays quick."""
    labels = open_label_source(shared_data / "pants_labels" / name)[name]
    step = (3, 3, 2)
    masks = {}
    for structure in SHOWN:
        mask = labels.mask(structure)
        assert mask is not None
        masks[structure] = thinned(mask, step)
    geometry = coarser(labels.geometry, step)
    hu = paint(masks, geometry, "portal_venous", np.random.default_rng(1))
    for structure in SHOWN[:7]:
        low, high = STRUCTURES[structure].hu_portal_venous
        assert low <= hu[masks[structure]].mean() <= high, structure
    if masks[LESION].any():
        gland = binary_erosion(masks["pancreas_tail"] & ~masks[LESION])
        assert hu[masks[LESION]].mean() < hu[gland].mean() - 10
    # the body ends before the image does
    assert max(hu[0].mean(), hu[:, 0].mean(), hu[:, -1].mean()) < -800


def test_command_paints_a_dataset_from_labels(
    tumour_cases: list[PhantomCase], tmp_path: Path
) -> None:
    from pantskit.core.dataset import write_case_labels

    case = tumour_cases[0]
    source = Dataset.create(tmp_path / "source")
    masks = {name: case.mask(name) for name in STRUCTURES}
    write_case_labels(source, "Real_01", "train", masks, case.geometry)
    out = tmp_path / "painted"
    arguments = ["phantom", "--paint", str(tmp_path / "source"), "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--phase", "arterial", "--workers", "0"])
    assert result.exit_code == 0, result.output
    painted = Dataset.open(out).case("Real_01")
    ct, labels = read_volume(painted.image_path), painted.labels()
    assert labels is not None
    assert ct.geometry.orientation == "LAI"
    liver, lesion = labels.mask("liver"), labels.mask(LESION)
    assert liver is not None
    assert lesion is not None
    assert liver.sum() == masks["liver"].sum()
    assert lesion.sum() == masks[LESION].sum()
    assert 40 < ct.array[liver].mean() < 110
    assert Dataset.open(out).metadata["Real_01"]["phase"] == "arterial"
