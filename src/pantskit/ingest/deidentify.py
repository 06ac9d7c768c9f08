"""Pseudonyms: names that only the holder of a secret key can link to a person."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from pantskit.core.errors import ConfigError

KEY_BYTES = 32


class Pseudonyms:
    """Names that only the holder of the key can link to a person or a series."""

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES // 2:
            raise ConfigError(f"the key has {len(key)} bytes; {KEY_BYTES} are expected")
        self._key = key

    def of(self, kind: str, secret: str) -> str:
        """A name such as `case_k3j2...` (60 bits): the same for the same secret and key."""
        digest = hmac.new(self._key, f"{kind}\0{secret}".encode(), hashlib.sha256).digest()
        return f"{kind}_{base64.b32encode(digest)[:12].decode().lower()}"


def read_key(path: Path) -> bytes:
    """The key of a file, which is made (mode 0600) when there is none.

    Raises:
        ConfigError: If it cannot be read or made, or holds no key.
    """
    try:
        if not path.exists():
            _make_key(path)
        return bytes.fromhex(path.read_text("ascii").strip())
    except OSError as error:
        raise ConfigError(f"{path}: the key cannot be made or read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(
            f"{path}: not a key of pantskit (hexadecimal digits); give another file with --key"
        ) from None


def _make_key(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def patient_secret(header: Mapping[str, str], otherwise: str) -> str:
    """What tells one patient from another, secret until keyed.

    The patient ID; where it is empty, name and birth date; where those are too, the series
    stands for a patient of its own.

    Args:
        header: attributes of the series.
        otherwise: identity of the series.
    """
    patient_id = header.get("PatientID", "").casefold()
    if patient_id:
        return f"id:{patient_id}"
    name = header.get("PatientName", "").casefold()
    return f"name:{name}:{header.get('PatientBirthDate', '')}" if name else f"series:{otherwise}"
