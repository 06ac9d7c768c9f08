from pathlib import Path

import pytest

from pantskit.core.errors import ConfigError
from pantskit.train.recipe import Recipe, known_recipes, read_patch


def test_default_recipe_is_the_papers() -> None:
    recipe = Recipe.read("paper")
    assert (recipe.epochs, recipe.iterations, recipe.batch_size) == (1000, 250, 2)
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum) == ("sgd", 0.01, 0.99)
    assert (recipe.schedule, recipe.deep_supervision) == ("poly", True)
    assert (recipe.augmentation, recipe.mirror_axes) == ("nnunet", ("i", "j", "k"))
    # Left to nnU-Net's planner.
    assert (recipe.patch_size, recipe.spacing, recipe.batch_dice) == ((), (), None)
    assert recipe == Recipe()


def test_both_recipes_come_with_the_package() -> None:
    assert known_recipes() == ("cpu", "paper")


def test_written_recipe_reads_back_equal(tmp_path: Path) -> None:
    for name in known_recipes():
        recipe = Recipe.read(name)
        recipe.write(tmp_path / "recipe.toml")
        assert Recipe.read(str(tmp_path / "recipe.toml")) == recipe


def test_file_takes_its_name_and_keeps_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 3\nspacing = [2, 2, 3]\n")
    recipe = Recipe.read(str(path))
    assert (recipe.name, recipe.epochs, recipe.spacing) == ("mine", 3, (2.0, 2.0, 3.0))
    assert recipe.learning_rate == Recipe().learning_rate


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("epoch = 3", "'epoch' is no setting"),
        ("epochs = 'many'", "epochs"),
        ("epochs = true", "epochs"),
        ("epochs = 0", "above 0"),
        ("optimizer = 'lion'", "sgd, adamw"),
        ("patch_size = [64, 64]", "three numbers"),
        ("patch_size = [64, 64, 4]", "below 8"),
        ("mirror_axes = ['x']", "i, j or k"),
        ("epochs = ", "not TOML"),
    ],
)
def test_wrong_setting_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Recipe.parse(text, "mine.toml")


def test_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="cpu, paper"):
        Recipe.read("gpu")


def test_patch_is_three_numbers() -> None:
    assert read_patch("64,48,32") == (64, 48, 32)
    assert read_patch("64x48x32") == (64, 48, 32)
    with pytest.raises(ConfigError, match="64,64,48"):
        read_patch("64")


def test_arithmetic_is_told_by_device() -> None:
    exact = Recipe(mixed_precision=False, compile=False)
    assert Recipe().describe_arithmetic("cuda") == "mixed precision, compiled"
    assert exact.describe_arithmetic("cuda") == "float32, not compiled"
    assert Recipe().describe_arithmetic("cpu") == exact.describe_arithmetic("cpu")
