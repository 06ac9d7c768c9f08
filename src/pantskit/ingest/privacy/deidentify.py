"""Pseudonyms, UIDs and dates that only the holder of a secret key can lead back to a person.

Dates: of every date only the year of the study leaves as it is. In a DICOM export all dates of a
patient are moved back by the same number of days, which follows from the key; times of day are
left out. What lies between two studies of a patient stays true.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import os
import secrets
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pantskit.core.errors import ConfigError

KEY_BYTES = 32
_MOST_DAYS = 3652  # ten years: with the study's year known, any day of it stays as likely


@dataclass(frozen=True)
class Rules:
    """Which rules of a DICOM export hold: all of them.

    Tests switch one off to show that the leak scan then finds what the rule keeps back.

    Attributes:
        elements: a new object with the elements of an allow-list; else every element of the
            source, private ones and those after the pixels too.
        meta: preamble and group 2 are made anew; else kept.
        patients: the patient is called by the pseudonym; else as in the source.
        uids: UIDs are mapped by the key; else kept.
        dates: dates are moved and times left out; else kept.
        facts: what came out of a vocabulary stands for the source's own words; else these.
        names: files are named by their number; else as in the source.
        frames: coded pixels lose comments, and all bytes after their end; else kept.
    """

    elements: bool = True
    meta: bool = True
    patients: bool = True
    uids: bool = True
    dates: bool = True
    facts: bool = True
    names: bool = True
    frames: bool = True


class Pseudonyms:
    """Names that only the holder of the key can link to a person or a series."""

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES // 2:
            raise ConfigError(f"the key has {len(key)} bytes; {KEY_BYTES} are expected")
        self._key = key

    def of(self, kind: str, secret: str) -> str:
        """A name such as `case_k3j2...` (60 bits): the same for the same secret and key."""
        digest = self._digest(kind, secret)
        return f"{kind}_{base64.b32encode(digest)[:12].decode().lower()}"

    def uid(self, source: str) -> str:
        """A UID for one of the source: the same for the same UID and key, and valid.

        It is of the form 2.25 (DICOM PS3.5 B.2): a version 8 UUID (RFC 9562) as one number.
        """
        digest = bytearray(self._digest("uid", source)[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"

    def shift_days(self, patient_id: str) -> int:
        """Days by which all dates of a patient are moved back: 1 to ten years.

        Args:
            patient_id: the patient's pseudonym.
        """
        digest = self._digest("shift", patient_id)
        return 1 + int.from_bytes(digest[:8], "big") % _MOST_DAYS

    def _digest(self, kind: str, secret: str) -> bytes:
        # File names may hold bytes that are no UTF-8.
        text = f"{kind}\0{secret}".encode("utf-8", "surrogateescape")
        return hmac.new(self._key, text, hashlib.sha256).digest()


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


def shifted_date(text: str | None, days: int) -> str | None:
    """A DICOM date (`20140902`, `2014.09.02`) moved back by some days; None where it is none."""
    digits = (text or "").strip().replace(".", "").replace("-", "")
    try:
        moved = datetime.datetime.strptime(digits[:8], "%Y%m%d") - datetime.timedelta(days)
    except (ValueError, OverflowError):
        return None
    return moved.strftime("%Y%m%d") if len(digits) >= 8 and moved.year >= 1800 else None


def days_since_first(rows: Iterable[tuple[str, str, str | None]]) -> dict[str, int | None]:
    """Days from a patient's first study in the dataset to each of theirs.

    The interval is true though the dates are not: both were moved by the same days. Whoever
    knows the interval and the years of two studies knows more of their dates than the years
    alone tell; where that matters, leave the column out.

    Args:
        rows: case ID, patient ID (pseudonyms) and moved study date (`shifted_date`) of each
            case of the dataset.

    Returns:
        case ID to days; 0 for a first or only study, None where the date is not known.
    """
    rows = list(rows)
    dated = {case: _day(date) for case, _, date in rows}
    patient_of = {case: patient for case, patient, _ in rows}
    first: dict[str, int] = {}
    for case, day in dated.items():
        if day is not None:
            first[patient_of[case]] = min(day, first.get(patient_of[case], day))
    return {
        case: None if day is None else day - first[patient_of[case]] for case, day in dated.items()
    }


def _day(date: str | None) -> int | None:
    if date is None:
        return None
    return datetime.datetime.strptime(date, "%Y%m%d").toordinal()
