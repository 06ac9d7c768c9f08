import pytest

from pantskit.core.errors import ConfigError
from pantskit.networks.architectures import ARCHITECTURES, find_architecture, registry
from pantskit.train.recipe import Recipe


def test_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"nnunet, resenc-m.*mednext-l"):
        find_architecture("vnet")
    with pytest.raises(ConfigError, match="vnet"):
        Recipe(architecture="vnet")


@pytest.mark.parametrize(
    ("name", "patch", "fitting"),
    [
        ("swin-unetr", (64, 64, 48), "64 x 64 x 64"),
        ("swin-unetr", (32, 32, 32), "64 x 64 x 64"),  # its coarsest grid would be one voxel
        ("unetr", (40, 96, 96), "32 x 96 x 96"),
        ("segresnet", (64, 64, 20), "64 x 64 x 16"),
        ("mednext-s", (100, 96, 96), "96 x 96 x 96"),
    ],
)
def test_patch_that_does_not_fit_is_refused_with_one_that_does(
    name: str, patch: tuple[int, ...], fitting: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name} takes patches.*{fitting} is"):
        Recipe(architecture=name, patch_size=patch)


def test_patches_that_fit_are_taken_as_they_are() -> None:
    ARCHITECTURES["swin-unetr"].require_patch((64, 32, 32))
    ARCHITECTURES["nnunet"].require_patch((37, 41, 29))  # its planner makes it fit


def test_missing_package_is_named_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"monai, which is not installed.*pantskit\[monai\]"):
        ARCHITECTURES["unetr"].require_installed()
    ARCHITECTURES["resenc-m"].require_installed()


def test_pretrained_encoder_is_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match=r"segresnet takes no pretrained.*; swin-unetr, unetr"):
        Recipe(architecture="segresnet", pretrained="weights.pt")


def test_published_width_is_that_of_features_32() -> None:
    assert ARCHITECTURES["swin-unetr"].settings((96, 96, 96), 32) == {"feature_size": 48}
    unetr = ARCHITECTURES["unetr"].settings((96, 96, 64), 32)
    assert unetr == {
        "img_size": [96, 96, 64],
        "feature_size": 16,
        "hidden_size": 768,
        "mlp_dim": 3072,
    }
    assert ARCHITECTURES["mednext-b"].settings((96, 96, 96), 32)["init_filters"] == 32
