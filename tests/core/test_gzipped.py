from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest

from pantskit.core.gzipped import DAMAGED, Piece, Zeros, decompressed_chunks, gzip_member

KINDS = ("ct", "image", "labels")


def made(pieces: list[Piece], kind: str) -> bytes:
    return b"".join(gzip_member(pieces, kind))


def meant(pieces: list[Piece]) -> bytes:
    return b"".join(bytes(p.count) if isinstance(p, Zeros) else bytes(p) for p in pieces)


def random_pieces(seed: int) -> list[Piece]:
    """Noise, text that repeats across runs of zeros, and runs of zeros long and short."""
    rng = np.random.default_rng(seed)
    pieces: list[Piece] = []
    for _ in range(rng.integers(0, 8)):
        match rng.integers(0, 4):
            case 0:
                pieces.append(Zeros(int(rng.integers(0, 3 << 20))))
            case 1:
                pieces.append(Zeros(int(rng.integers(0, 1 << 17))))
            case 2:
                pieces.append(rng.integers(0, 255, rng.integers(0, 90_000), np.uint8).tobytes())
            case _:
                pieces.append(b"the same words again and again " * int(rng.integers(0, 5000)))
    return pieces


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(25))
def test_pieces_come_back_from_one_member_with_the_right_checksum(seed: int, kind: str) -> None:
    pieces = random_pieces(seed)
    file = made(pieces, kind)
    reader = zlib.decompressobj(31)  # stops after the first member, as some readers do
    assert reader.decompress(file) + reader.flush() == meant(pieces)
    assert reader.eof
    assert not reader.unused_data
    assert gzip.decompress(file) == meant(pieces)  # which checks checksum and size


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 65_535, 65_536, 65_537, (1 << 20) + 65_536 + 1])
def test_zeros_alone(count: int, kind: str) -> None:
    assert gzip.decompress(made([Zeros(count)], kind)) == bytes(count)
    assert (
        gzip.decompress(made([Zeros(count), Zeros(count), b"x"], kind)) == bytes(2 * count) + b"x"
    )


def test_many_zeros_take_no_more_room_than_zlib_gives_them() -> None:
    count = 512 * 512 * 300
    ours = len(made([b"head", Zeros(count), b"tail"], "labels"))
    assert ours < 1.02 * len(zlib.compress(bytes(count), 6))


def test_the_gzip_header_holds_no_name_and_no_time() -> None:
    header = made([b"x"], "image")[:10]
    assert header == b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff"


def test_chunks_are_the_bytes_of_a_file_zipped_or_not(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 9, 3 << 20, np.uint8).tobytes()
    (tmp_path / "a.gz").write_bytes(made([content], "labels"))
    (tmp_path / "b").write_bytes(content)
    for path in tmp_path.iterdir():
        chunks = list(decompressed_chunks(path))
        assert b"".join(chunks) == content
        assert len(chunks) > 1


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    file = bytearray(made([b"words " * 1000], "image"))
    file[-6] ^= 1
    (tmp_path / "a.gz").write_bytes(file)
    with pytest.raises(DAMAGED):
        list(decompressed_chunks(tmp_path / "a.gz"))
    (tmp_path / "a.gz").write_bytes(file[:-20])
    with pytest.raises(DAMAGED):
        list(decompressed_chunks(tmp_path / "a.gz"))


def hu(noise: float, megabytes: int, seed: int = 0) -> bytes:
    """Rows of a body in air: 200 of 512 voxels are clipped air, the rest is tissue and noise."""
    rng = np.random.default_rng(seed)
    rows = np.full((megabytes << 10, 512), -1000, np.int16)
    waves = 60 * np.sin(np.arange(312) / 40) + 40 * np.sin(np.arange(len(rows)) / 70)[:, None]
    rows[:, 100:412] = np.rint(waves + noise * rng.standard_normal(waves.shape))
    return rows.tobytes()


@pytest.mark.parametrize("noise", [2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 22.0, 32.0, 64.0])
def test_a_ct_is_hardly_larger_than_zlib_makes_it_whatever_its_noise(noise: float) -> None:
    voxels = hu(noise, 4)
    slices = [voxels[n : n + (1 << 19)] for n in range(0, len(voxels), 1 << 19)]
    file = made([bytes(352), *slices], "ct")
    assert gzip.decompress(file) == bytes(352) + voxels
    assert len(file) < 1.06 * len(zlib.compress(voxels, 6))


def test_a_ct_that_becomes_smooth_comes_back_from_one_member() -> None:
    parts = [hu(20.0, 17), hu(1.0, 17), hu(20.0, 17, seed=1)]
    file = made(
        [part[n : n + (1 << 20)] for part in parts for n in range(0, 17 << 20, 1 << 20)], "ct"
    )
    reader = zlib.decompressobj(31)
    assert reader.decompress(file) + reader.flush() == b"".join(parts)
    assert reader.eof
    assert not reader.unused_data
    # Each is written as it would be alone.
    assert len(file) < 1.02 * sum(len(made([part], "ct")) for part in parts)
