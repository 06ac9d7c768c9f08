"""One request for a file on a server, or for the rest of one, and what its answer means."""

from __future__ import annotations

import email.utils
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, cast
from urllib.parse import urlsplit

from pantskit import __version__
from pantskit.ingest.download.errors import Changed, DownloadError, Passing

BLOCK_BYTES = 1 << 18

# The hub tells of a file in its large-file store, on the way to it (huggingface_hub, constants.py).
_LINKED_ETAG = "X-Linked-Etag"
_LINKED_SIZE = "X-Linked-Size"

_SCHEMES = ("https://", "http://")
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT_S = 600.0


@dataclass(frozen=True)
class Link:
    """How servers are asked.

    Attributes:
        stall_s: a connection from which nothing comes for so long is given up.
        tries: how often in a row, without a byte between, before a file is given up.
        backoff_s: wait before the second try; doubled each time, a minute at most.
        token: access token of the hub, for the host of `token_host` alone.
    """

    stall_s: float = 60.0
    tries: int = 8
    backoff_s: float = 1.0
    token: str = ""
    token_host: str = ""

    def wait_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        return float(min(self.backoff_s * 2 ** (failures - 1), 60.0))


@dataclass(frozen=True)
class Answer:
    """What a server sends.

    Attributes:
        start: which byte of the file comes first.
        total: bytes of the whole file; None where the server does not say.
        validator: its ETag, or the date of its last change; "" where it has neither.
        sha256: as the hub tells it; "".
    """

    body: IO[bytes]
    start: int
    total: int | None
    validator: str
    sha256: str = ""

    def blocks(self) -> Iterator[bytes]:
        """The body, until it ends or the connection does.

        Raises:
            Passing: If nothing comes for too long, or the connection breaks.
        """
        with self.body:
            while True:
                try:
                    block = self.body.read(BLOCK_BYTES)
                except http.client.IncompleteRead as error:
                    if error.partial:
                        yield error.partial
                    raise Passing("the connection was closed") from None
                except (OSError, http.client.HTTPException) as error:
                    raise Passing(_trouble(error)) from None
                if not block:
                    return
                yield block


def ask(url: str, start: int, validator: str, link: Link) -> Answer:
    """Ask for a file from byte `start` on; for the whole one where it has changed.

    Args:
        url: http or https. Proxies are those of the environment, certificates are checked.
        start: the first byte that is wanted.
        validator: of the file that was begun; "" for a new one.
        link: timeouts and token.

    Raises:
        Passing: If it is worth to try again.
        Changed: If the server has another file now.
        DownloadError: If it is not.

    Source: RFC 9110, 13.1.5 (If-Range, strong validators only) and 14.
    """
    hops = _Hops()
    try:
        request = _request(url, start, validator, link)
        response = urllib.request.build_opener(hops).open(request, timeout=link.stall_s)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error, url) from None
    except urllib.error.URLError as error:
        raise _unreachable(error.reason, url) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(error, url) from None
    except ValueError as error:
        raise DownloadError(f"{url}: {error}") from None
    return _answer(response, start, validator, hops.told)


def _request(url: str, start: int, validator: str, link: Link) -> urllib.request.Request:
    if not url.startswith(_SCHEMES):
        raise DownloadError(f"{url}: an address begins with https:// or http://")
    request = urllib.request.Request(url, headers={"User-Agent": f"pantskit/{__version__}"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator and not validator.startswith("W/"):
            request.add_header("If-Range", validator)
    if link.token and urlsplit(url).netloc == link.token_host:
        # Not passed on to the store that the hub redirects to.
        request.add_unredirected_header("Authorization", f"Bearer {link.token}")
    return request


def _answer(response: Any, start: int, validator: str, told: Mapping[str, str]) -> Answer:
    headers = response.headers
    first, total = 0, _number(headers.get("Content-Length"))
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != start:
            response.close()
            raise DownloadError(
                f"the server answers with {headers.get('Content-Range')!r} where bytes from "
                f"{start} on were asked for; fetch the file by hand and give its folder with --from"
            )
        first, total = start, _number(found[2])
    mark = headers.get("ETag") or headers.get("Last-Modified") or ""
    if validator and mark and mark != validator:
        response.close()
        raise Changed
    linked = told.get(_LINKED_ETAG, "").strip('"')
    sha256 = linked if re.fullmatch(r"[0-9a-f]{64}", linked) else ""
    size = _number(told.get(_LINKED_SIZE))
    return Answer(cast("IO[bytes]", response), first, total if size is None else size, mark, sha256)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


class _Hops(urllib.request.HTTPRedirectHandler):
    """Follows redirects, hears what the hub tells on the way, and never leaves TLS."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        for name in (_LINKED_ETAG, _LINKED_SIZE):
            if headers.get(name):
                self.told[name] = headers[name]
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise DownloadError(f"{req.full_url} leads to {newurl}, which is not encrypted")
        if not newurl.startswith(_SCHEMES):
            raise DownloadError(f"{req.full_url} leads to {newurl}, which is no web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refusal(error: urllib.error.HTTPError, url: str) -> Exception:
    """What a status from 400 on means."""
    if error.code == 416:
        return Changed()
    if error.code in _BUSY:
        return Passing(f"the server answers {error.code}", _asked_wait(error.headers))
    said = {
        401: "an account is needed, or the access token is not valid: log in there, agree to its "
        "terms, and give the token of the hub as HF_TOKEN or the archive with --from",
        403: "access is not granted: log in there, agree to its terms or licence, and give the "
        "token of the hub as HF_TOKEN or the archive with --from",
        404: "there is no such file; it may have been moved (--revision, --endpoint, --mirror)",
        407: "the proxy wants a name and a password; give them in HTTPS_PROXY",
        410: "the file was removed",
    }.get(error.code, " ".join(str(error.reason).split()))
    return DownloadError(f"{url}: the server answers {error.code}: {said}")


def _asked_wait(headers: Any) -> float:
    """Retry-After in seconds; 0 where there is none."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isdigit():
        return min(float(text), _LONGEST_WAIT_S)
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return 0.0
    return min(max(until - time.time(), 0.0), _LONGEST_WAIT_S)


def _unreachable(reason: Any, url: str) -> Exception:
    host = urlsplit(url).netloc
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(
            f"{host}: its certificate is not trusted ({reason.verify_message}); where a proxy "
            "of your own signs, name its certificate in SSL_CERT_FILE"
        )
    if isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN:
        return DownloadError(f"{host}: no such host ({reason.strerror}); is there a network?")
    if isinstance(reason, (OSError, http.client.HTTPException)):
        return Passing(f"{host}: {_trouble(reason)}")
    return DownloadError(f"{url}: {reason}")


def _trouble(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came for too long"
    if isinstance(error, socket.gaierror):
        return f"its address cannot be found now ({error.strerror})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
