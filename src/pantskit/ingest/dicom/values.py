"""Header values as plain numbers and texts; what cannot be one is None."""

from __future__ import annotations

import math
from typing import Any


def text_of(value: Any) -> str | None:
    """A header value as text; None where it says nothing."""
    text = "" if value is None else str(value).strip().strip("\0")
    return text or None


def number_of(value: Any) -> float | None:
    """A header value as a finite number, or None."""
    try:
        number = _float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def numbers_of(value: Any) -> tuple[float, ...] | None:
    """A header value as finite numbers, or None where one is not."""
    if isinstance(value, str):  # a single one, whose digits are no numbers of their own
        value = (value,)
    try:
        numbers = tuple(map(_float, value))
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _float(value: Any) -> float:
    # Python's own notation for long numbers is none of DICOM's: `1_024` is damage.
    if isinstance(value, str) and "_" in value:
        raise ValueError("no number")
    return float(value)


def words_of(value: Any) -> tuple[str, ...]:
    """The values of a header attribute that may have several, as texts."""
    if value is None or value == "":
        return ()
    return (value.strip(),) if isinstance(value, str) else tuple(str(v).strip() for v in value)


def integer_of(value: Any) -> int | None:
    """A header value as a whole number, or None."""
    number = number_of(value)
    return None if number is None else int(number)


def padding_of(value: Any) -> int | None:
    """A pixel padding value, whatever its representation; its sign is for the pixels to tell."""
    # An implicit header does not say whether it is signed, so pydicom leaves bytes.
    if isinstance(value, bytes):
        return int.from_bytes(value, "little") if len(value) in (2, 4) else None
    return int(value) if isinstance(value, int) else None
