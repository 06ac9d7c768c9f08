"""The hub's ways, certificates, proxies, and a run that is interrupted."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from file_server import FileServer, Served, Turn, expected, serving, tar_gz, tree
from tests.ingest.download.conftest import QUICK
from typer.testing import CliRunner

from pantskit.cli.app import app
from pantskit.ingest.download.declared import read_download

REVISION = "3b1cd61108116b58ea5c1ddb3512c1847d965f96"
TABLE = f"/datasets/BodyMaps/PanTSMini/resolve/{REVISION}/metadata.xlsx"


def call(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(w) for w in words])
    return result.exit_code, result.output


@pytest.fixture
def store() -> Iterator[FileServer]:
    """The server that the hub sends on to: another host, as far as tokens go."""
    with serving() as files:
        yield files


@pytest.fixture
def hub(
    server: FileServer, store: FileServer, monkeypatch: pytest.MonkeyPatch
) -> tuple[FileServer, FileServer, bytes]:
    """A hub with the metadata at revision `main`, which asks for a token."""
    data = b"a table " * 1000
    store.files["/blob"] = Served(data)
    linked = {
        "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
        "X-Linked-Size": str(len(data)),
    }
    page = Served(b"", goes_to=f"{store.url}/blob", headers=linked, token="Bearer secret")
    server.files[TABLE.replace(REVISION, "main")] = page
    server.files[TABLE] = replace(page)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    return server, store, data


def test_files_come_from_the_endpoint_of_the_environment(hub, tmp_path) -> None:
    _, _, data = hub
    words = ("download", "pants", "--metadata", "--out", tmp_path / "P")
    code, text = call(*words, "--revision", "main")
    assert code == 0, text
    assert (tmp_path / "P" / "metadata.xlsx").read_bytes() == data


def test_the_token_goes_to_the_hub_and_no_further(hub, tmp_path) -> None:
    server, store, _ = hub
    call("download", "pants", "--metadata", "--revision", "main", "--out", tmp_path / "P")
    assert [headers.get("Authorization") for _, headers in server.asked] == ["Bearer secret"]
    assert [headers.get("Authorization") for _, headers in store.asked] == [None]


def test_without_a_token_the_page_and_what_to_do_are_named(hub, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    code, text = call("download", "pants", "--metadata", "--out", tmp_path / "P")
    assert code == 1
    assert "failed: metadata.xlsx: http" in text
    assert "401: an account is needed" in text
    assert "HF_TOKEN" in text


def test_what_the_hub_sends_is_compared_with_what_it_told(hub, tmp_path) -> None:
    _, store, data = hub
    store.files["/blob"].data = data[:-1] + b"X"
    code, text = call(
        "download", "pants", "--metadata", "--revision", "main", "--out", tmp_path / "P"
    )
    assert code == 1
    assert "its SHA-256 is" in text
    assert not (tmp_path / "P" / "metadata.xlsx").exists()


def test_another_file_than_the_declared_one_is_refused_unread(hub, tmp_path) -> None:
    """The declared size and checksum are those of the real table."""
    code, text = call("download", "pants", "--metadata", "--out", tmp_path / "P")
    assert code == 1
    assert "8000 bytes, 1334813 were expected" in text
    assert tree(tmp_path / "P") == {}


def test_a_mirror_has_all_files_by_their_names() -> None:
    found = read_download("pants", mirror="https://mirror.example/pants/")
    assert {f.url for f in found.files} == {
        f"https://mirror.example/pants/{f.name}" for f in read_download("pants").files
    }
    assert all(f.size for f in found.files)  # and what is declared still holds


def test_a_proxy_of_the_environment_is_asked(fetch, server, members, monkeypatch) -> None:
    """A proxy gets the whole address where a server gets a path."""
    url = "http://files.example/a.tar.gz"
    server.files[url] = Served(tar_gz(members))
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    assert fetch("a.tar.gz", url=url).status == "done"
    assert [path for path, _ in server.asked] == [url]


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a certificate that nobody signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "www").mkdir()
    (folder / "www" / "a.tar.gz").write_bytes(tar_gz({"a": b"a"}))
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder / "www"))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"https://localhost:{server.server_address[1]} {certificate}"
        server.shutdown()


def test_a_certificate_that_nobody_trusts_is_refused(fetch, encrypted, monkeypatch) -> None:
    url, certificate = encrypted.split(" ", 1)
    outcome = fetch("a.tar.gz", url=f"{url}/a.tar.gz")
    assert outcome.status == "failed"
    assert "its certificate is not trusted" in outcome.message
    assert "SSL_CERT_FILE" in outcome.message
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    assert fetch("a.tar.gz", url=f"{url}/a.tar.gz").status == "done"


def test_a_redirect_that_leaves_tls_is_refused(fetch, server) -> None:
    import urllib.request

    from pantskit.ingest.download.errors import DownloadError
    from pantskit.ingest.download.remote import _Hops

    request = urllib.request.Request("https://hub.example/file")
    with pytest.raises(DownloadError, match="which is not encrypted"):
        _Hops().redirect_request(request, None, 302, "", {}, "http://store.example/file")


def test_an_interrupted_run_ends_with_130_and_says_how_to_go_on(
    server: FileServer, members, tmp_path: Path
) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, dataclasses\n"
        "import pantskit.ingest.download as stage\n"
        "from pantskit.ingest.download.declared import RemoteFile\n"
        "found = stage.read_download('pants')\n"
        f"files = (RemoteFile('a.tar.gz', url='{server.url}/a.tar.gz'),)\n"
        "found = dataclasses.replace(found, files=files)\n"
        "stage.read_download = lambda *_, **__: found\n"
        "from pantskit.cli.app import main\n"
        "main()\n"
    )
    served = Served(tar_gz(members), turns=[Turn(stall=350_000, stall_s=30)])
    server.files["/a.tar.gz"] = served
    reached = threading.Event()
    served.sent = lambda position: reached.set() if position >= 350_000 else None
    out = tmp_path / "P"
    command = [sys.executable, str(script), "download", "pants", "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert reached.wait(60)
        time.sleep(0.3)
        began = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        _, text = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again to go on" in text
    assert time.monotonic() - began < 15  # it does not wait for the server
    there = tree(out)
    assert {p: h for p, h in there.items() if ".pantskit-part-" not in p}.items() <= expected(
        members
    ).items()
    served.sent = lambda _: None
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stderr
    assert tree(out) == expected(members)


def test_progress_tells_bytes_rate_and_time_left() -> None:
    from pantskit.cli.download import _line
    from pantskit.ingest.download.run import Meter

    meter = Meter(total=10_000_000, files=2, done=1)
    assert _line(meter).endswith("0 bytes/s, time left not known")
    meter._marks[0] = (meter._marks[0][0] - 10.0, 0)
    meter.heard(4_000_000)
    said = _line(meter)
    assert said.startswith("download 1/2 files, 4.0 MB of 10.0 MB, 400.0 kB/s, ")
    assert said.endswith("15 s left")
    assert QUICK.wait_s(1) == pytest.approx(0.01)
    assert replace(QUICK, backoff_s=1.0).wait_s(20) == 60.0
