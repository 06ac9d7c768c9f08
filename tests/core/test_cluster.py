from __future__ import annotations

import builtins
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import LocalCluster

from pantskit.core import cluster as cluster_module
from pantskit.core.cluster import ClusterWorkers, _Remote
from pantskit.core.crew import Outcome
from pantskit.core.errors import ConfigError, ImageError, WorkerLost
from pantskit.core.records import RecordStore
from pantskit.core.run import Job, run_cases


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    # The local cluster gives up a worker that it does not see 15 s after it has died; these
    # die one after another.
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}),
        LocalCluster(
            n_workers=2,
            processes=True,
            threads_per_worker=1,
            dashboard_address=":0",
            memory_limit="1GiB",
            silence_logs=logging.CRITICAL,
        ) as local,
    ):
        yield local


@pytest.fixture
def workers(cluster: LocalCluster) -> Iterator[ClusterWorkers]:
    cluster.wait_for_workers(2, timeout=60)  # replaced ones may be on their way
    with ClusterWorkers(cluster.scheduler_address) as crew:
        yield crew


def work(what: str) -> str:
    if "sigkill" in what:
        os.kill(os.getpid(), signal.SIGKILL)
    if "segfault" in what:
        ctypes.string_at(0)
    if "exception" in what:
        raise ImageError(f"{what} is not an image")
    if "hang" in what:
        time.sleep(60)
    if "slow" in what:
        time.sleep(0.5)
    return what.upper()


def outcomes(workers: ClusterWorkers, items: list[str], **options: Any) -> dict[str, Outcome[str]]:
    found = list(workers.map(work, items, **options))
    assert len(found) == len(items)  # each once
    return dict(found)


def test_one_killed_one_crashed_one_failed_of_forty_cost_themselves_only(
    workers: ClusterWorkers,
) -> None:
    items = [f"item {n}" for n in range(40)]
    items[3] += " sigkill"
    items[11] += " exception"
    items[23] += " segfault"
    found = outcomes(workers, items)
    bad = {item: outcome.error for item, outcome in found.items() if outcome.error}
    assert set(bad) == {items[3], items[11], items[23]}
    assert isinstance(bad[items[11]], ImageError)
    for item in (items[3], items[23]):
        assert isinstance(bad[item], WorkerLost)
        assert "its worker process died" in str(bad[item])
    assert found["item 39"].value == "ITEM 39"


def test_an_item_that_takes_too_long_is_stopped(workers: ClusterWorkers) -> None:
    start = time.monotonic()
    found = outcomes(workers, ["hang", "b", "c", "d"], timeout_s=2)
    assert str(found.pop("hang").error) == "took longer than 2 s and was stopped"
    assert [o.value for o in found.values()] == ["B", "C", "D"]
    assert time.monotonic() - start < 40


def test_an_item_goes_where_the_memory_is(workers: ClusterWorkers) -> None:
    small, large = _Remote(workers, "a", 100), _Remote(workers, "b", 1000)
    workers._remotes = {"a": small, "b": large}
    assert workers.room_mb(small) == 100
    assert workers.room_mb(large) == float("inf")  # nowhere is there more
    assert workers.free() == [large, small]


def test_what_a_stopped_run_was_doing_does_not_go_on(cluster: LocalCluster, tmp_path: Path) -> None:
    with ClusterWorkers(cluster.scheduler_address) as crew:
        for _ in crew.map(write_later, [tmp_path / "now", tmp_path / "later"]):
            break
    time.sleep(4)
    assert [p.name for p in tmp_path.iterdir()] == ["now"]


def write_later(path: Path) -> None:
    time.sleep(0 if path.name == "now" else 3)
    path.write_text("")


def test_a_run_on_the_cluster_leaves_the_records_of_a_local_one(
    workers: ClusterWorkers, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("content")
    jobs = [Job(f"c{n}", inputs=(tmp_path / "in",)) for n in range(6)]
    runs = [
        run_cases(case, jobs, stage="s", store=RecordStore(tmp_path / name), workers=crew)
        for name, crew in (("here", 0), ("there", workers))
    ]
    for one, other in zip(runs[0].records, runs[1].records, strict=True):
        assert (one.status, one.fingerprint, one.data) == (
            other.status,
            other.fingerprint,
            other.data,
        )
    store = RecordStore(tmp_path / "there")
    assert run_cases(case, jobs, stage="s", store=store, workers=workers).ran == ()


def case(job: Job) -> dict[str, Any]:
    return {"case": job.case_id}


# What stands in the way


def test_no_scheduler_is_told_of_in_time() -> None:
    start = time.monotonic()
    with (
        pytest.raises(ConfigError, match=r"tcp://127.0.0.1:1: no Dask scheduler answered within 1"),
        ClusterWorkers("tcp://127.0.0.1:1", answer_s=1),
    ):
        pass
    assert time.monotonic() - start < 10


def test_an_address_that_is_none_is_told_of() -> None:
    with (
        pytest.raises(ConfigError, match="nonsense://x: no Dask sch"),
        ClusterWorkers("nonsense://x"),
    ):
        pass


def test_dask_that_is_not_installed_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name == "distributed":
            raise ModuleNotFoundError(name="distributed")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "distributed")
    with (
        pytest.raises(ConfigError, match=r"pip install 'pantskit\[cluster\]'"),
        ClusterWorkers("x"),
    ):
        pass


def test_another_version_on_a_worker_is_refused(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "__version__", "99.0")
    with (
        pytest.raises(ConfigError, match=r"workers have pantskit .*, this command 99\.0"),
        ClusterWorkers(cluster.scheduler_address),
    ):
        pass


def test_a_cluster_without_workers_and_one_that_has_gone_are_told_of() -> None:
    with LocalCluster(
        n_workers=0, processes=True, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as empty:
        crew = ClusterWorkers(empty.scheduler_address, answer_s=2, workers_s=1)
        with crew:
            with pytest.raises(ConfigError, match="had no worker for 1 s"):
                outcomes(crew, ["a"])
            empty.close()
            with pytest.raises(ConfigError, match="the Dask scheduler has gone"):
                outcomes(crew, ["a"])
