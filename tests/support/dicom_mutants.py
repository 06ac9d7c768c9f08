"""Damage and forgery of DICOM files, byte by byte and element by element.

A mutation is a function of the files of one series and a random generator. Those of bytes work on
any file; those of elements take an explicit little endian file apart without any DICOM library, so
that lengths, VRs and values can be forged that no library would write.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from numpy.random import Generator, default_rng

Files = list[bytes]
Mutation = Callable[[Files, Generator], Files]

_LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UT", b"UN", b"UC", b"UR")
_ENDLESS = 0xFFFFFFFF


@dataclass(frozen=True)
class Element:
    """One element of an explicit little endian file; `length` is what the file claims."""

    tag: int
    vr: bytes
    value: bytes
    length: int | None = None

    @property
    def encoded(self) -> bytes:
        length = len(self.value) if self.length is None else self.length
        head = struct.pack("<HH", self.tag >> 16, self.tag & 0xFFFF) + self.vr
        if self.vr in _LONG:
            return head + struct.pack("<HI", 0, length & _ENDLESS) + self.value
        return head + struct.pack("<H", length & 0xFFFF) + self.value


@dataclass(frozen=True)
class Parts:
    """A file in parts: its first 132 bytes, then the elements of the meta group and the rest."""

    start: bytes
    elements: list[Element] = field(default_factory=list)

    @classmethod
    def of(cls, raw: bytes) -> Parts:
        """Take a file apart.

        Raises:
            ValueError: If it is not in an explicit little endian syntax.
        """
        at, elements = 132, []
        while at < len(raw):
            group, number = struct.unpack_from("<HH", raw, at)
            vr = raw[at + 4 : at + 6]
            if not (vr.isalpha() and vr.isupper()):
                raise ValueError("not explicit little endian")
            if vr in _LONG:
                (length,) = struct.unpack_from("<I", raw, at + 8)
                at += 12
            else:
                (length,) = struct.unpack_from("<H", raw, at + 6)
                at += 8
            endless = length == _ENDLESS  # encapsulated pixels, which come last
            value = raw[at:] if endless else raw[at : at + length]
            elements.append(Element(group << 16 | number, vr, value, _ENDLESS if endless else None))
            at += len(value)
        return cls(raw[:132], elements)

    @property
    def encoded(self) -> bytes:
        return self.start + b"".join(e.encoded for e in self.elements)

    def index(self, tag: int) -> int:
        """Where an element is; -1 when there is none."""
        return next((n for n, e in enumerate(self.elements) if e.tag == tag), -1)

    def put(self, tag: int, vr: bytes, value: bytes, length: int | None = None) -> None:
        """Replace an element, or add it in its place."""
        at = self.index(tag)
        vr = self.elements[at].vr if at >= 0 else vr
        new = Element(tag, vr, value + b" " * (len(value) % 2), length)
        if at >= 0:
            self.elements[at] = new
            return
        after = next((n for n, e in enumerate(self.elements) if e.tag > tag), len(self.elements))
        self.elements.insert(after, new)


def _some(count: int, rng: Generator) -> list[int]:
    """One of the files, mostly; sometimes all of them."""
    return list(range(count)) if rng.random() < 0.25 else [int(rng.integers(count))]


def of_bytes(change: Callable[[bytearray, Generator], bytes | bytearray]) -> Mutation:
    """A mutation of one file's bytes."""

    def mutation(files: Files, rng: Generator) -> Files:
        files = list(files)
        one = int(rng.integers(len(files)))
        files[one] = bytes(change(bytearray(files[one]), rng))
        return files

    return mutation


def of_elements(change: Callable[[Parts, Generator], None]) -> Mutation:
    """A mutation of elements: of one file, or the same of all."""

    def mutation(files: Files, rng: Generator) -> Files:
        files = list(files)
        seed = int(rng.integers(2**32))
        for one in _some(len(files), rng):
            parts = Parts.of(files[one])
            change(parts, default_rng(seed))  # the same in every file
            files[one] = parts.encoded
        return files

    return mutation


# --- bytes -----------------------------------------------------------------------------------


def _flip(raw: bytearray, rng: Generator, low: int, high: int, bits: int) -> bytearray:
    for _ in range(bits):
        raw[int(rng.integers(low, max(high, low + 1)))] ^= 1 << int(rng.integers(8))
    return raw


def _overwrite(raw: bytearray, rng: Generator) -> bytearray:
    at, length = int(rng.integers(len(raw))), int(rng.integers(1, 64))
    filler = (b"\0", b"\xff", rng.bytes(1))[int(rng.integers(3))]
    raw[at : at + length] = filler * min(length, len(raw) - at)
    return raw


def _insert(raw: bytearray, rng: Generator) -> bytearray:
    at = int(rng.integers(len(raw)))
    raw[at:at] = rng.bytes(int(rng.integers(1, 32)))
    return raw


def _delete(raw: bytearray, rng: Generator) -> bytearray:
    at = int(rng.integers(len(raw)))
    del raw[at : at + int(rng.integers(1, 32))]
    return raw


def _pixel_bits(raw: bytearray, rng: Generator) -> bytearray:
    return _flip(raw, rng, len(raw) * 2 // 3, len(raw), int(rng.integers(1, 4)))


def _header_bits(raw: bytearray, rng: Generator) -> bytearray:
    return _flip(raw, rng, 128, min(1100, len(raw)), int(rng.integers(1, 3)))


BYTES: dict[str, Mutation] = {
    "cut anywhere": of_bytes(lambda raw, rng: raw[: int(rng.integers(len(raw)))]),
    "cut in the header": of_bytes(lambda raw, rng: raw[: int(rng.integers(min(1100, len(raw))))]),
    "cut a little": of_bytes(lambda raw, rng: raw[: -int(rng.integers(1, 40))]),
    "bits of the header": of_bytes(_header_bits),
    "bits of the pixels": of_bytes(_pixel_bits),
    "bits anywhere": of_bytes(lambda raw, rng: _flip(raw, rng, 0, len(raw), 16)),
    "run overwritten": of_bytes(_overwrite),
    "bytes inserted": of_bytes(_insert),
    "bytes deleted": of_bytes(_delete),
    "random preamble": of_bytes(lambda raw, rng: rng.bytes(128) + bytes(raw[128:])),
    "preamble of a TIFF": of_bytes(lambda raw, rng: b"II*\0\x08\0\0\0" + bytes(raw[8:])),
    "no preamble": of_bytes(lambda raw, rng: raw[128:]),
    "no mark": of_bytes(lambda raw, rng: bytes(raw[:128]) + rng.bytes(4) + bytes(raw[132:])),
    "neither preamble nor meta group": of_bytes(lambda raw, rng: raw[132 + 200 :]),
    "rubbish behind": of_bytes(lambda raw, rng: bytes(raw) + rng.bytes(int(rng.integers(1, 99)))),
    "file twice in one": of_bytes(lambda raw, rng: raw + raw),
    "nothing but zeros": of_bytes(lambda raw, rng: bytes(len(raw))),
    "nothing but noise": of_bytes(lambda raw, rng: rng.bytes(len(raw))),
    "empty": of_bytes(lambda raw, rng: b""),
    "file again": lambda files, rng: [*files, files[int(rng.integers(len(files)))]],
    "file missing": lambda files, rng: [
        f for n, f in enumerate(files) if n != int(rng.integers(len(files))) or len(files) == 1
    ],
}

# --- elements --------------------------------------------------------------------------------

_SHORTS = tuple(struct.pack("<H", n) for n in (0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 24, 31, 32, 33,
    35, 37, 64, 1000, 32767, 32768, 65535))  # fmt: skip
_NUMBERS = (
    b"NaN", b"inf", b"-inf", b"1e308", b"-1e308", b"1e5000", b"1e-320", b"0", b"-0", b"", b" ",
    b"0x10", b"1,5", b"1.5.2", b"abc", b"--3", b"1e", b"99999999999999999999", b"\xff\xfe", b"2",
    b"0.5", b"-1", b"0.33333333333333", b"1024", b"-1024.5", b"1\\2", b"1_000", b"\xd9\xa3",
)  # fmt: skip
_POSITIONS = (
    b"1e30\\0\\0", b"0\\0\\0", b"-100\\-120\\1e9", b"-100\\-120", b"-100\\-120\\50\\7", b"",
    b"-100\\-120\\NaN", b"-100\\-120\\inf", b"a\\b\\c", b"\\\\", b"-100\\-120\\51",
    b"-100\\-120\\54.9", b"-100\\-121\\52.5", b"1e308\\1e308\\1e308", b"-100\\-120\\-1e308",
)  # fmt: skip
_DIRECTIONS = (
    b"1\\0\\0\\0\\1\\0", b"0\\0\\0\\0\\0\\0", b"1\\0\\0\\1\\0\\0", b"1\\0\\0\\0\\1", b"",
    b"NaN\\0\\0\\0\\1\\0", b"2\\0\\0\\0\\2\\0", b"1\\0\\0\\0\\0.99\\0.01", b"-1\\0\\0\\0\\-1\\0",
    b"0\\1\\0\\1\\0\\0", b"1e-300\\0\\0\\0\\1\\0", b"1\\0\\0\\0\\0\\-1", b"inf\\0\\0\\0\\1\\0",
)  # fmt: skip
_SPACINGS = (
    b"0\\0", b"-0.75\\0.5", b"0.75", b"0.75\\0.5\\1", b"NaN\\0.5", b"1e-9\\1e-9", b"1e9\\1e9",
    b"inf\\inf", b"", b"0.5\\0.75", b"0.75\\0.50001", b"a\\b",
)  # fmt: skip
_UIDS = (b"", b"\0", b"not a uid", b"1.2.3", b"9" * 64, b"1." * 40, b"\xff\xff", b"1.2\\3.4")
_CLASSES = (
    b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.5.1.4.1.1.2.1", b"1.2.840.10008.5.1.4.1.1.4",
    b"1.2.840.10008.5.1.4.1.1.7", b"1.2.840.10008.5.1.4.1.1.66.4", b"1.2.840.10008.1.3.10",
    b"1.2.840.10008.5.1.4.1.1.481.3", b"1.2.840.10008.5.1.4.1.1.88.67", b"", b"9.9",
)  # fmt: skip
_SYNTAXES = (
    b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2",
    b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.4.50",
    b"1.2.840.10008.1.2.4.51", b"1.2.840.10008.1.2.4.57", b"1.2.840.10008.1.2.4.70",
    b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.4.81", b"1.2.840.10008.1.2.4.90",
    b"1.2.840.10008.1.2.4.91", b"1.2.840.10008.1.2.4.201", b"1.2.840.10008.1.2.4.202",
    b"1.2.840.10008.1.2.4.94", b"1.2.840.10008.1.2.4.102", b"1.2.840.10008.1.2.8.1",
    b"1.2.840.113619.5.2", b"9.9.9", b"", b"\xff",
)  # fmt: skip
_TYPES = (
    b"ORIGINAL\\PRIMARY\\LOCALIZER", b"DERIVED\\SECONDARY\\MPR", b"", b"\\\\\\\\", b"A" * 300,
    b"ORIGINAL\\PRIMARY\\AXIAL\\\xff", b"DERIVED\\PRIMARY\\AXIAL", b"ORIGINAL", b"AXIAL\\" * 9000,
)  # fmt: skip
_WORDS = (b"", b"\xff\xfe\xfd", b"\0\0\0", b"x" * 60000, b"a\\" * 20000, "Spätphase".encode(),
    b"..\\..\\etc", b"\x1b$B0!\x1b(B", b"%s%n%d{}", b"\r\n\x07")  # fmt: skip
_DATES = (b"99999999", b"20149999", b"00000000", b"", b"yesterday", b"2014.09.02", b"-2014090")
_CHARSETS = (b"ISO 2022 IR 87", b"ISO_IR 999", b"\\ISO 2022 IR 149", b"", b"GB18030", b"\xff",
    b"ISO_IR 192", b"utf-7", b"idna\\rot13")  # fmt: skip

FORGED: dict[int, tuple[bytes, tuple[bytes, ...]]] = {
    0x00280010: (b"US", _SHORTS),  # Rows
    0x00280011: (b"US", _SHORTS),  # Columns
    0x00280100: (b"US", _SHORTS),  # BitsAllocated
    0x00280101: (b"US", _SHORTS),  # BitsStored
    0x00280102: (b"US", _SHORTS),  # HighBit
    0x00280103: (b"US", _SHORTS[:4] + _SHORTS[-1:]),  # PixelRepresentation
    0x00280002: (b"US", _SHORTS),  # SamplesPerPixel
    0x00280006: (b"US", _SHORTS[:3]),  # PlanarConfiguration
    0x00280004: (b"CS", (b"MONOCHROME1", b"RGB", b"PALETTE COLOR", b"YBR_FULL_422", b"", b"\xff")),
    0x00280008: (
        b"IS",
        (b"0", b"1", b"2", b"3", b"-1", b"1000000", b"4294967296", b"a", b"1.5", b""),
    ),
    0x00280034: (b"IS", (b"2\\1", b"0\\0", b"1\\1")),  # PixelAspectRatio
    0x00280120: (b"US", _SHORTS),  # PixelPaddingValue
    0x00280121: (b"US", _SHORTS),  # PixelPaddingRangeLimit
    0x00281052: (b"DS", _NUMBERS),  # RescaleIntercept
    0x00281053: (b"DS", _NUMBERS),  # RescaleSlope
    0x00281054: (b"LO", (b"HU", b"US", b"hu", b"MGML", b"", b"HU\\US", b"\xff")),  # RescaleType
    0x00282110: (b"CS", (b"01", b"00", b"", b"YES")),  # LossyImageCompression
    0x00200032: (b"DS", _POSITIONS),
    0x00200037: (b"DS", _DIRECTIONS),
    0x00280030: (b"DS", _SPACINGS),
    0x0020000E: (b"UI", _UIDS),  # SeriesInstanceUID
    0x0020000D: (b"UI", _UIDS),  # StudyInstanceUID
    0x00200052: (b"UI", _UIDS),  # FrameOfReferenceUID
    0x00080018: (b"UI", _UIDS),  # SOPInstanceUID
    0x00080016: (b"UI", _CLASSES),  # SOPClassUID
    0x00020002: (b"UI", _CLASSES),  # MediaStorageSOPClassUID
    0x00020010: (b"UI", _SYNTAXES),
    0x00020000: (b"UL", (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\0\0\0", b"\0\1\0\0")),
    0x00080008: (b"CS", _TYPES),
    0x00080060: (b"CS", (b"MR", b"SEG", b"PT", b"", b"ct", b"CT\\MR", b"\xff", b"OT")),  # Modality
    0x00080005: (b"CS", _CHARSETS),
    0x00080020: (b"DA", _DATES),
    0x00080022: (b"DA", _DATES),
    0x00080032: (b"TM", (b"999999", b"", b"noon", b"101112.999999999")),
    0x0008103E: (b"LO", _WORDS),  # SeriesDescription
    0x00181210: (b"SH", _WORDS),  # ConvolutionKernel
    0x00080070: (b"LO", _WORDS),  # Manufacturer
    0x00100010: (b"PN", _WORDS),
    0x00100020: (b"LO", _WORDS),
    0x00100030: (b"DA", _DATES),
    0x00100040: (b"CS", (b"X", b"male", b"", b"\xff", b"F\\M")),
    0x00101010: (b"AS", (b"999Y", b"-05Y", b"", b"12", b"0x4Y", b"064Y\\065Y")),
    0x00180060: (b"DS", _NUMBERS),  # KVP
    0x00180050: (b"DS", _NUMBERS),  # SliceThickness
    0x00200011: (b"IS", _NUMBERS),  # SeriesNumber
    0x00200012: (b"IS", _NUMBERS),  # AcquisitionNumber
    0x00200013: (b"IS", _NUMBERS),  # InstanceNumber
    0x00283000: (b"SQ", (b"", b"\xfe\xff\x00\xe0\0\0\0\0")),  # ModalityLUTSequence
    0x7FE00008: (b"OF", (b"\0" * 64, b"\0\0\xc0\x7f" * 192)),  # FloatPixelData
}


def _forge(parts: Parts, rng: Generator) -> None:
    tag = list(FORGED)[int(rng.integers(len(FORGED)))]
    vr, values = FORGED[tag]
    parts.put(tag, vr, values[int(rng.integers(len(values)))])


def _forge_pixel_description(parts: Parts, rng: Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        tags = [t for t in FORGED if t >> 16 == 0x0028 and FORGED[t][0] == b"US"]
        tag = tags[int(rng.integers(len(tags)))]
        parts.put(tag, b"US", _SHORTS[int(rng.integers(len(_SHORTS)))])


def _anywhere(parts: Parts, rng: Generator) -> int:
    return int(rng.integers(len(parts.elements)))


def _forge_length(parts: Parts, rng: Generator) -> None:
    at = _anywhere(parts, rng)
    true = len(parts.elements[at].value)
    lengths = (0, 1, true + 1, true + 2, max(true - 2, 0), 0xFFFE, 0xFFFF, 0x7FFFFFFF, _ENDLESS)
    length = lengths[int(rng.integers(len(lengths)))]
    parts.elements[at] = replace(parts.elements[at], length=length)


def _forge_vr(parts: Parts, rng: Generator) -> None:
    at = _anywhere(parts, rng)
    vrs = (b"SQ", b"UN", b"OB", b"US", b"FD", b"DS", b"UT", b"AT", b"PN", b"??", b"\0\0", b"ZZ")
    parts.elements[at] = replace(parts.elements[at], vr=vrs[int(rng.integers(len(vrs)))])


def _swap_tags(parts: Parts, rng: Generator) -> None:
    a, b = _anywhere(parts, rng), _anywhere(parts, rng)
    one, other = parts.elements[a], parts.elements[b]
    parts.elements[a], parts.elements[b] = replace(one, tag=other.tag), replace(other, tag=one.tag)


def _swap_values(parts: Parts, rng: Generator) -> None:
    # But for the first, the meta group's length: pydicom refuses what is no number there.
    a, b = (max(_anywhere(parts, rng), 1) for _ in range(2))
    one, other = parts.elements[a], parts.elements[b]
    parts.elements[a] = replace(one, value=other.value)
    parts.elements[b] = replace(other, value=one.value)


def _remove(parts: Parts, rng: Generator) -> None:
    del parts.elements[_anywhere(parts, rng)]


def _remove_known(parts: Parts, rng: Generator) -> None:
    known = [n for n, e in enumerate(parts.elements) if e.tag in FORGED or e.tag == 0x7FE00010]
    del parts.elements[known[int(rng.integers(len(known)))]]


def _repeat(parts: Parts, rng: Generator) -> None:
    at = _anywhere(parts, rng)
    parts.elements.insert(_anywhere(parts, rng), parts.elements[at])


def _shuffle(parts: Parts, rng: Generator) -> None:
    meta = [e for e in parts.elements if e.tag >> 16 == 2]
    rest = [e for e in parts.elements if e.tag >> 16 != 2]
    rng.shuffle(rest)  # type: ignore[arg-type]
    parts.elements[:] = [*meta, *rest]


def _retag(parts: Parts, rng: Generator) -> None:
    at = _anywhere(parts, rng)
    parts.elements[at] = replace(parts.elements[at], tag=int(rng.integers(2**32)))


def _nest(parts: Parts, rng: Generator) -> None:
    """Sequences in sequences, of no defined length, thousands deep."""
    depth = (10, 500, 2000, 9000)[int(rng.integers(4))]
    head = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, _ENDLESS)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, _ENDLESS)
    closed = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    value = (item + head) * depth + (closed * depth if rng.random() < 0.5 else b"")
    tag = (0x00081115, 0x00400275, 0x00091001)[int(rng.integers(3))]
    parts.put(tag, b"SQ", value, _ENDLESS)


def _forge_fragments(parts: Parts, rng: Generator) -> None:
    """Encapsulated pixels whose items are none, empty, too long or without end."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    ends = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    at = parts.index(0x7FE00010)
    if at < 0:
        return
    value = parts.elements[at].value
    forged = (
        b"", item + ends, item * 5000 + ends, value[:-8],
        item + struct.pack("<HHI", 0xFFFE, 0xE000, 0x7FFFFFFF) + b"\xff\xd8",
        struct.pack("<HHI", 0xFFFE, 0xE000, 8) + b"\xff" * 8 + value[8:],
        value[8:], item + item + value[8:],
    )  # fmt: skip
    forged += () if parts.elements[at].length else (value + value, value + b"\0\0")
    new = forged[int(rng.integers(len(forged)))]
    length = _ENDLESS if rng.random() < 0.7 else None
    vr = (b"OB", b"OW", b"UN")[int(rng.integers(3))]
    parts.elements[at] = Element(0x7FE00010, vr, new, length)


def _deflate_bomb(parts: Parts, rng: Generator) -> None:
    """A deflated file that is small on disk and large once inflated."""
    mebibytes = 300 if rng.random() < 0.3 else 1
    parts.put(0x00020010, b"UI", b"1.2.840.10008.1.2.1.99\0")
    meta = [e for e in parts.elements if e.tag >> 16 == 2]
    rest = b"".join(e.encoded for e in parts.elements if e.tag >> 16 == 8)
    behind = b"".join(e.encoded for e in parts.elements if e.tag >> 16 > 8)
    rest += Element(0x00110010, b"UN", b"", mebibytes * 2**20).encoded
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = pack.compress(rest) + pack.flush(zlib.Z_FULL_FLUSH)
    zeros = pack.compress(bytes(2**20)) + pack.flush(zlib.Z_FULL_FLUSH)  # the same each time
    packed += zeros * mebibytes + pack.compress(behind) + pack.flush()
    # As one element that encodes to exactly the packed bytes.
    parts.elements[:] = [*meta, _Verbatim(0, b"", packed)]


class _Verbatim(Element):
    @property
    def encoded(self) -> bytes:
        return self.value


ELEMENTS: dict[str, Mutation] = {
    "element forged": of_elements(_forge),
    "pixel description forged": of_elements(_forge_pixel_description),
    "length forged": of_elements(_forge_length),
    "VR forged": of_elements(_forge_vr),
    "tags swapped": of_elements(_swap_tags),
    "values swapped": of_elements(_swap_values),
    "element removed": of_elements(_remove),
    "needed element removed": of_elements(_remove_known),
    "element repeated": of_elements(_repeat),
    "elements shuffled": of_elements(_shuffle),
    "tag at random": of_elements(_retag),
    "nested without end": of_elements(_nest),
    "fragments forged": of_elements(_forge_fragments),
    "deflate bomb": of_elements(_deflate_bomb),
}

# --- archives --------------------------------------------------------------------------------


def zipped(files: Files, rng: Generator) -> bytes:
    """The series in an archive, damaged in one of many ways."""
    stream = io.BytesIO()
    method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[int(rng.integers(2))]
    names = [f"s/{n}" for n in range(len(files))]
    odd = ("../../x", "/etc/x", "s/1", "", "s\\1", "ü/" + "n" * 200, "C:\\x", "s/1/")
    kind = int(rng.integers(9))
    if kind == 8:
        names[0] = odd[int(rng.integers(len(odd)))]
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, raw in zip(names, files, strict=True):
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            if rng.random() < 0.1:
                info.external_attr = 0o120777 << 16  # a symbolic link
            archive.writestr(info, raw)
    raw = bytearray(stream.getvalue())
    central = raw.index(b"PK\x01\x02")
    if kind == 0:
        return bytes(raw[: int(rng.integers(len(raw)))])
    if kind == 1:
        return bytes(_flip(raw, rng, 0, central, 3))
    if kind == 2:
        return bytes(_flip(raw, rng, central, len(raw), 2))
    if kind == 3:
        raw[central + 24 : central + 28] = rng.bytes(4)  # unpacked size
    if kind == 4:
        raw[central + 20 : central + 24] = rng.bytes(4)  # packed size
    if kind == 5:
        raw[central + 8] |= 1  # encrypted
    if kind == 6:
        raw[central + 10] = int(rng.integers(256))  # method
    return bytes(raw)
