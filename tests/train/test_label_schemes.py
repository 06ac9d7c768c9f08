from pathlib import Path

import pytest

from pantskit.core.errors import ConfigError
from pantskit.core.labels import STRUCTURES
from pantskit.train.label_schemes import Scheme, known_schemes


def test_schemes_that_come_with_the_package_are_read() -> None:
    assert known_schemes() == ("28", "pancreas-regions", "pancreas-tumor")
    assert Scheme.read("28").structures == tuple(STRUCTURES)
    assert Scheme.read("pancreas-tumor").structures == ("pancreas", "pancreatic_lesion")
    assert Scheme.read("pancreas-regions").heads == "regions"


def test_file_of_ones_own_is_a_scheme_and_takes_names_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "kidneys.toml"
    path.write_text('structures = ["Left Kidney", "kidney_right"]\n')
    scheme = Scheme.read(str(path))
    assert (scheme.name, scheme.heads) == ("kidneys", "softmax")
    assert scheme.structures == ("kidney_left", "kidney_right")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("structures = ", "not TOML"),
        ("structure = ['liver']", "'structure' is no setting"),
        ("heads = 'softmax'", "structures are missing"),
        ("structures = ['elbow']", "elbow"),
        ("structures = 'liver'", "list of names"),
        ("structures = ['liver', 'Liver']", "liver is there twice"),
        ("structures = ['liver']\nheads = 'sigmoid'", "softmax or regions"),
        ("structures = ['liver']\nrequired = ['spleen']", "not all learned"),
    ],
)
def test_wrong_scheme_is_refused_with_the_reason(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Scheme.parse(text, "mine")


def test_unknown_scheme_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="28, pancreas-regions, pancreas-tumor"):
        Scheme.read("104")
    with pytest.raises(ConfigError, match="cannot be read"):
        Scheme.read(str(tmp_path / "none.toml"))
