"""NRRD files written by hand, so that any header can be made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

VALUES = np.random.default_rng(3).integers(-1000, 1000, (5, 4, 3), dtype=np.int16)

HEADER = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "5 4 3",
    "space directions": "(0.5,0,0) (0,0.75,0) (0,0,2.5)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(10,20,30)",
}


def write(
    path: Path, data: bytes | None = None, *, keys: dict[str, str] | None = None, **fields: str
) -> Path:
    """A NRRD file with HEADER's fields but for those given; "" leaves one out."""
    header = HEADER | {name.replace("_", " "): value for name, value in fields.items()}
    lines = ["NRRD0005", "# a comment", *(f"{n}: {v}" for n, v in header.items() if v)]
    lines += [f"{key}:={value}" for key, value in (keys or {}).items()]
    body = VALUES.tobytes(order="F") if data is None else data
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + body)
    return path
