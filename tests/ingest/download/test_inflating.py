"""A gzip stream can be taken up at each of its points, and damage is found from there as well."""

from __future__ import annotations

import gzip
import io
import random
import zlib
from pathlib import Path

import pytest
from isal import igzip

from pantskit.ingest.download import inflating
from pantskit.ingest.download.inflating import (
    BEGINNING,
    Inflated,
    Point,
    read_point,
    write_point,
)


@pytest.fixture(autouse=True)
def close_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflating, "SPACING_BYTES", 5000)


@pytest.fixture(scope="module")
def content() -> bytes:
    """What cannot be compressed, what can, and what nearly vanishes."""
    noise = random.Random(4)
    parts = (noise.randbytes(40_000), bytes(noise.choices(b"abcdef", k=150_000)), b"x" * 90_000)
    return b"".join(parts * 2)


def packings(content: bytes) -> dict[str, bytes]:
    pieces = [content[at : at + 7000] for at in range(0, len(content), 7000)]
    return {
        "stored": gzip.compress(content, 0),
        "quick": gzip.compress(content, 1),
        "small": gzip.compress(content, 9),
        "ISA-L": igzip.compress(content, 2),
        "several members": b"".join(map(gzip.compress, pieces)) + bytes(100),
    }


def read_from(packed: bytes, point: Point = BEGINNING) -> tuple[bytes, list[Point]]:
    """All from a point on, read in pieces of odd sizes; and the points on the way."""
    source = io.BytesIO(packed)
    source.seek(point.first_byte)
    stream, found, points = Inflated(source, point), bytearray(), []
    while block := stream.read(4999):
        found += block
        if passed := stream.latest_point():
            assert passed.at <= point.at + len(found)
            points.append(passed)
    stream.close()
    return bytes(found), points


def test_what_follows_each_point_is_the_rest_of_the_content(content: bytes) -> None:
    for name, packed in packings(content).items():
        found, points = read_from(packed)
        assert found == content, name
        assert points, name
        for point in points:
            assert read_from(packed, point)[0] == content[point.at :], (name, point)


def test_points_come_at_any_bit(content: bytes) -> None:
    points = read_from(packings(content)["small"])[1]
    assert len({p.bits for p in points}) > 1


def test_a_wrong_checksum_or_length_is_found_from_each_point(content: bytes) -> None:
    packed = packings(content)["quick"]
    points = read_from(packed)[1]
    for position in (-8, -1):
        damaged = bytearray(packed)
        damaged[position] ^= 1
        for point in (BEGINNING, *points):
            with pytest.raises(zlib.error):
                read_from(bytes(damaged), point)


def test_content_that_changed_before_a_point_is_found_behind_it(content: bytes) -> None:
    """The checksum is that of the whole, not of what was read since."""
    other = b"\0" + content[1:]
    point = read_from(gzip.compress(other, 0))[1][0]
    with pytest.raises(zlib.error, match="CRC-32"):
        read_from(gzip.compress(content, 0), point)


def test_a_stream_that_ends_anywhere_is_cut_short(content: bytes) -> None:
    packed = packings(content)["quick"]
    points = read_from(packed)[1]
    for end in (1, 9, 11, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        for point in (BEGINNING, points[0]):
            if end > point.packed_at:
                with pytest.raises(EOFError):
                    read_from(packed[:end], point)


def test_any_damaged_byte_is_found(content: bytes) -> None:
    packed = packings(content)["small"]
    noise = random.Random(9)
    # Of a header only the first bytes matter: time, level and system mean nothing here.
    for position in (0, 1, 2, *(noise.randrange(10, len(packed)) for _ in range(40))):
        damaged = bytearray(packed)
        damaged[position] ^= 1 << noise.randrange(8)
        with pytest.raises((zlib.error, EOFError)):
            read_from(bytes(damaged))


def test_headers_with_all_that_they_may_have_are_read(content: bytes) -> None:
    header = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x03\x00abc" + b"name\0" + b"comment\0"
    sum16 = (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    rest = gzip.compress(content)[10:]
    assert read_from(header + sum16 + rest)[0] == content
    with pytest.raises(zlib.error, match="checksum of a gzip header"):
        read_from(header + b"\0\0" + rest)
    with pytest.raises(zlib.error, match="no gzip header at byte 0"):
        read_from(b"<!DOCTYPE html>")
    assert read_from(b"")[0] == b""


def test_what_follows_the_last_member_is_zeros_or_refused(content: bytes) -> None:
    packed = packings(content)["small"]
    assert read_from(packed + bytes(1000))[0] == content
    with pytest.raises(zlib.error, match="no gzip header"):
        read_from(packed + b"something else")


def test_a_point_comes_back_as_it_was_written(content: bytes, tmp_path: Path) -> None:
    point = read_from(packings(content)["small"])[1][-1]
    path = tmp_path / "a.point"
    write_point(point, '"1"', path)
    assert read_point(path, '"1"') == point
    assert read_point(path, '"2"') is None
    assert read_point(tmp_path / "none", '"1"') is None


def test_a_damaged_point_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.point"
    write_point(read_from(packings(content)["quick"])[1][-1], "", path)
    whole = path.read_bytes()
    noise = random.Random(1)
    for _ in range(30):
        damaged = bytearray(whole)
        damaged[noise.randrange(len(whole) - 1)] ^= 1 << noise.randrange(8)
        path.write_bytes(damaged)
        assert read_point(path, "") is None
    for length in (0, 1, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        assert read_point(path, "") is None
