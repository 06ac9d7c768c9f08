"""What is true of the checkout: what is committed, pinned and declared."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
IMAGES = (".nii", ".nii.gz", ".dcm", ".nrrd", ".mha", ".npz", ".pth", ".pt", ".parquet", ".zip")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home|Users|opt)/[\w.-]+")
LARGEST_BYTES = 1_000_000


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if shutil.which("git") is None or not (CHECKOUT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    paths = [CHECKOUT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return found


def normalized(requirement: str) -> str:
    """The package that a requirement names, as registries spell it."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_no_image_model_or_other_large_file_is_committed(tracked: list[Path]) -> None:
    assert [p.name for p in tracked if p.name.endswith(IMAGES)] == []
    assert [p.name for p in tracked if p.stat().st_size > LARGEST_BYTES] == []


def test_no_committed_text_names_a_path_of_one_machine(tracked: list[Path]) -> None:
    found = {}
    for path in tracked:
        data = path.read_bytes()
        if b"\0" not in data and (hits := MACHINE_PATH.findall(data.decode())):
            found[path.name] = hits
    assert found == {}


def pins() -> dict[str, str]:
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_constraint_is_an_exact_public_version() -> None:
    for name, version in pins().items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version), f"{name}=={version}"  # no +cpu, no path


def test_constraints_hold_for_the_cpu_and_the_cuda_build_of_torch() -> None:
    assert {"torch", "torchvision", "timm"} <= set(pins())
    assert not [name for name in pins() if name.startswith(("nvidia-", "cuda-", "triton"))]


def test_every_dependency_is_pinned_in_the_constraints(project: dict[str, object]) -> None:
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    wanted = [*project["dependencies"], *(r for rs in extras.values() for r in rs)]
    missing = {normalized(r) for r in wanted} - {"pantskit"} - set(pins())
    assert missing == set()


def test_torch_comes_only_with_the_train_extra(project: dict[str, object]) -> None:
    core = project["dependencies"]
    assert isinstance(core, list)
    assert not {normalized(r) for r in core} & {"torch", "nnunetv2", "monai"}


def test_every_package_that_the_source_imports_is_declared(project: dict[str, object]) -> None:
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    assert isinstance(project["dependencies"], list)
    declared = {
        normalized(r)
        for r in [
            *project["dependencies"],
            *extras["train"],
            *extras["cluster"],
            *extras["dicom-seg"],
            *extras["monai"],
            *extras["tensorboard"],
        ]
    }
    installed = packages_distributions()
    for path in (CHECKOUT / "src").rglob("*.py"):
        for module in imported_modules(path) - sys.stdlib_module_names - {"pantskit"}:
            distributions = {normalized(name) for name in installed.get(module, [module])}
            assert distributions & declared, f"{path.name} imports {module}, which is not declared"


def imported_modules(path: Path) -> set[str]:
    """The top-level modules that a file imports, inside functions as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.split(".")[0])
    return found
