"""Options of `pantskit predict`: exactness, compiling, devices, how busy the network was."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from pantskit.cli import app as cli
from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError
from pantskit.core.labelsets import COMBINED
from pantskit.core.labelvolumes import read_label_map
from pantskit.core.volume import Volume, read_volume
from pantskit.core.writing import write_volume
from pantskit.networks.compiled import Compiled
from pantskit.networks.folder import Model
from pantskit.predict.case import Prediction, Shortcuts, parse_axes, predict_volume
from pantskit.predict.devices import Devices
from pantskit.predict.run import PredictSettings, predict_cases

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method")


def command(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["predict", *(str(word) for word in words)])


@pytest.fixture
def ct(trained: tuple[Dataset, Path]) -> Volume:
    """A test patient."""
    return read_volume(trained[0].cases("test")[0].image_path)


def facts(out: Path, case_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / case_id / "prediction.json").read_text())
    return found


def test_next_scan_is_read_while_the_network_computes(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is so slow that it has begun only when the network is at work."""
    scans = {f"scan_{n}": tmp_path / f"scan_{n}.nii.gz" for n in range(3)}
    for path in scans.values():
        write_volume(path, ct)
    begun = {case_id: threading.Event() for case_id in scans}
    computing = {n: threading.Event() for n in range(3)}
    computed = iter(range(3))

    def slow_read(path: Path) -> Volume:
        n = int(path.name[5])
        begun[f"scan_{n}"].set()
        if n:
            assert computing[n - 1].wait(60)
        return read_volume(path)

    def compute(*given: Any, **how: Any) -> Prediction:
        n = next(computed)
        computing[n].set()
        if n < 2:
            assert begun[f"scan_{n + 1}"].wait(60)
        return predict_volume(*given, **how)

    monkeypatch.setattr("pantskit.predict.run.read_volume", slow_read)
    monkeypatch.setattr("pantskit.predict.run.predict_volume", compute)
    settings = PredictSettings(device="cpu")
    summary = predict_cases(trained[1], scans, tmp_path / "out", settings=settings)
    assert [r.message for r in summary.records] == ["", "", ""]


def test_json_tells_how_busy_the_network_was(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    for n in range(2):
        write_volume(tmp_path / "in" / f"scan_{n}.nii.gz", ct)
    words = (trained[1], tmp_path / "in", "--out", tmp_path / "out", "--device", "cpu", "--json")
    result = command(*words)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    cases, busy = said["cases"], said["utilisation"]
    assert busy["network_s"] == pytest.approx(sum(c["network_s"] for c in cases), abs=0.002)
    assert busy["waited_s"] == pytest.approx(sum(c["waited_s"] for c in cases), abs=0.002)
    assert 0 < busy["share"] < 1
    assert f"busy {busy['share']:.0%} of the time" in result.stderr
    assert facts(tmp_path / "out", "scan_0")["network_s"] == cases[0]["network_s"]
    again = command(*words)
    assert json.loads(again.stdout)["utilisation"] is None  # nothing was computed
    assert "of the time" not in again.stderr


SHORTCUTS = [
    ("--no-mirror",),
    ("--mirror-axes", "0"),
    ("--step", "0.75"),
    ("--skip-air",),
    ("--bf16",),
    ("--compile",),
]


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_exact_refuses_each_shortcut_by_its_name(
    trained: tuple[Dataset, Path], tmp_path: Path, shortcut: tuple[str, ...]
) -> None:
    result = command(trained[1], trained[0].root, "--out", tmp_path / "out", "--exact", *shortcut)
    assert result.exit_code == 2
    assert f"--exact and {shortcut[0]}: a shortcut changes the answer" in result.stderr
    assert not (tmp_path / "out").exists()


def test_without_options_nothing_is_cut_short_and_exact_says_so(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    write_volume(tmp_path / "scan.nii.gz", ct)
    scan, found = tmp_path / "scan.nii.gz", {}
    for name, words in (("plain", ()), ("exact", ("--exact",))):
        out = tmp_path / name
        result = command(trained[1], scan, "--out", out, "--device", "cpu", *words)
        assert result.exit_code == 0, result.output
        found[name] = facts(out, "scan")
        assert found[name]["shortcuts"] == {
            "step": 0.5, "skip_air": False, "bf16": False, "compile": False, "mirror_axes": None
        }  # fmt: skip
        assert found[name]["precision"] == "float32"
        assert not found[name]["compiled"]
    assert (found["plain"]["exact"], found["exact"]["exact"]) == (False, True)
    plain, exact = (read_label_map(tmp_path / n / "scan" / COMBINED) for n in ("plain", "exact"))
    np.testing.assert_array_equal(plain.array, exact.array)


def test_exact_turns_a_gpu_s_half_precision_and_tf32_off(
    trained: tuple[Dataset, Path], ct: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch is told is looked at on the CPU, inside the network."""
    seen = []

    class Looking(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            backends = torch.backends
            seen.append((backends.cudnn.allow_tf32, backends.cudnn.deterministic))
            return self.network(patches)

    model = Model.load(trained[1])
    network = Looking(model.build(CPU))
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    predict_volume(model, network, ct, device=CPU, exact=True)
    assert set(seen) == {(False, True)}
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == before
    seen.clear()
    predict_volume(model, network, ct, device=CPU)
    assert set(seen) == {before}


def test_fewer_flips_are_computed_along_the_axes_that_are_given(
    trained: tuple[Dataset, Path], ct: Volume
) -> None:
    """Each axis doubles what the network computes; along which it is flipped is in the patches."""
    seen: list[torch.Tensor] = []

    class Looking(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            seen.append(patches)
            return self.network(patches)

    model = replace(Model.load(trained[1]), mirror_axes=(0, 1, 2))
    network, calls = Looking(model.build(CPU)), {}
    for axes in (None, (0, 2), (1,)):
        seen.clear()
        predict_volume(model, network, ct, device=CPU, shortcuts=Shortcuts(mirror_axes=axes))
        calls[axes] = len(seen)
    assert torch.equal(seen[1], seen[0].flip(2 + 1))
    seen.clear()
    predict_volume(model, network, ct, device=CPU, mirror=False)
    assert calls == {None: 8 * len(seen), (0, 2): 4 * len(seen), (1,): 2 * len(seen)}


def test_flips_that_cannot_be_are_refused(trained: tuple[Dataset, Path], tmp_path: Path) -> None:
    assert parse_axes("2, 0") == (0, 2)
    out = tmp_path / "out"
    for words, message in (
        (("--mirror-axes", "0,3"), "--mirror-axes 0,3: axes of the network's input are expected"),
        (("--mirror-axes", ""), "are expected"),
        (("--mirror-axes", "1,1"), "are expected"),
        (("--mirror-axes", "1", "--no-mirror"), "--no-mirror and --mirror-axes: give one of them"),
    ):
        result = command(trained[1], trained[0].root, "--out", out, *words)
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    model = replace(Model.load(trained[1]), mirror_axes=(0, 1))
    with pytest.raises(ConfigError, match="was trained with flips along 0,1; give"):
        Shortcuts(mirror_axes=(2,)).require_known_to(model)
    assert not out.exists()


def test_half_precision_is_taken_on_a_gpu_unless_exact() -> None:
    from pantskit.predict.windows import Sliding

    gpu = torch.device("cuda", 0)  # only named
    assert Sliding((8, 8, 8), 2, gpu).precision == "float16 (autocast)"
    assert Sliding((8, 8, 8), 2, gpu, exact=True).precision == "float32"
    assert Sliding((8, 8, 8), 2, CPU).precision == "float32"
    assert Sliding((8, 8, 8), 2, CPU, bf16=True).precision == "bfloat16 (autocast)"


class Batches(Compiled):
    """A compiled network, without the compiler, that notes the sizes of its batches."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__(network, CPU)
        self._compiled, self.sizes = network, set[int]()

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        self.sizes.add(len(patches))
        return super().forward(patches)


def test_compiled_network_meets_one_shape_only_and_answers_the_same(
    trained: tuple[Dataset, Path], ct: Volume
) -> None:
    model = Model.load(trained[1])
    network = model.build(CPU)
    plain = predict_volume(model, network, ct, device=CPU, batch=1)
    batches = Batches(network)
    filled = predict_volume(model, batches, ct, device=CPU, batch=5)
    assert plain.windows % 5  # the last batch is not full
    assert batches.sizes == {5}
    assert filled.windows == plain.windows
    assert (filled.compiled, plain.compiled) == (True, False)
    assert (filled.labels.array != plain.labels.array).mean() < 1e-4
    assert filled.tumor_probability == pytest.approx(plain.tumor_probability, abs=1e-4)


def test_without_a_compiler_the_network_runs_as_it_is_and_says_so(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def fails(patches: torch.Tensor) -> torch.Tensor:
        raise InvalidCxxCompiler

    monkeypatch.setattr(torch, "compile", lambda network, **_: fails)
    write_volume(tmp_path / "scan.nii.gz", ct)
    scan = tmp_path / "scan.nii.gz"
    words = ("--device", "cpu", "--compile")
    result = command(trained[1], scan, "--out", tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    assert "note: not compiled: " in result.stderr
    assert "(scan)" in result.stderr
    found = facts(tmp_path / "out", "scan")
    assert found["shortcuts"]["compile"]
    assert not found["compiled"]
    command(trained[1], scan, "--out", tmp_path / "plain", "--device", "cpu")
    one, other = (read_label_map(tmp_path / n / "scan" / COMBINED) for n in ("out", "plain"))
    np.testing.assert_array_equal(one.array, other.array)


@pytest.mark.slow
def test_compiled_network_equals_the_network(trained: tuple[Dataset, Path], ct: Volume) -> None:
    model = Model.load(trained[1])
    network = model.build(CPU)
    compiled = Compiled(network, CPU)
    patches = torch.randn((2, 1, *model.plans.patch_size))
    with torch.inference_mode():
        expected, found = network(patches), compiled(patches)
    if compiled.why_not:
        pytest.skip(compiled.why_not)
    assert (expected - found).abs().max() < 1e-4 * expected.abs().max()
    plain = predict_volume(model, network, ct, device=CPU, batch=2)
    fast = predict_volume(model, compiled, ct, device=CPU, batch=2)
    assert fast.compiled
    assert (fast.labels.array != plain.labels.array).mean() < 1e-4


def test_two_processes_work_through_one_queue_and_a_rerun_does_the_rest(
    trained: tuple[Dataset, Path], ct: Volume, tmp_path: Path
) -> None:
    for n in range(4):
        write_volume(tmp_path / "in" / f"scan_{n}.nii.gz", ct.with_array(ct.array + np.int16(n)))
    (tmp_path / "in" / "text.nii.gz").write_text("no image")
    words = (trained[1], tmp_path / "in", "--out", tmp_path / "out")
    result = command(*words, "--device", "cpu,cpu")
    assert result.exit_code == 1, result.output
    assert "predict: 4 done, 1 failed" in result.stderr
    assert "of the time" in result.stderr
    write_volume(tmp_path / "in" / "text.nii.gz", ct)
    settings = PredictSettings(device="cpu")
    inputs = {p.name.removesuffix(".nii.gz"): p for p in sorted((tmp_path / "in").iterdir())}
    again = predict_cases(trained[1], inputs, tmp_path / "out", settings=settings)
    assert again.counts == {"done": 5}
    assert again.ran == ("text",)
    predict_cases(trained[1], inputs, tmp_path / "alone", settings=settings)
    for case_id in inputs:
        one, other = (read_label_map(tmp_path / n / case_id / COMBINED) for n in ("out", "alone"))
        np.testing.assert_array_equal(one.array, other.array)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch, as far as it is asked before anything is computed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
def test_each_gpu_gets_two_processes_that_take_turns() -> None:
    assert Devices.parse("cuda:0,cuda:1", None) == Devices(
        ("cuda:0", "cuda:1", "cuda:0", "cuda:1"), "cuda", 4
    )
    assert Devices.parse("cuda:0,cuda:1", 2) == Devices(("cuda:0", "cuda:1"), "cuda", 2)
    assert Devices.parse("cpu,cpu", None) == Devices(("cpu", "cpu"), "cpu", 2)
    assert Devices.parse("cuda:1", None) == Devices(("cuda:1",), "cuda", 0)
    assert Devices.parse("auto", None) == Devices(("auto",), "cuda", 0)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("text", "workers", "named"),
    [
        ("cuda:0,cuda:2", None, "torch sees 2 CUDA devices"),
        ("cuda:0,auto", None, "'auto' in a list"),
        ("cuda:0,,cpu", None, "'' in a list"),
        ("tpu", None, "auto, cpu, cuda"),
        ("cpu,cpu", 0, "2 devices and 0 workers"),
        ("cpu,cpu,cpu", 2, "3 devices and 2 workers"),
    ],
)
def test_devices_that_cannot_be_are_named(text: str, workers: int | None, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Devices.parse(text, workers)
