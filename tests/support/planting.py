"""Values planted in every element that can hold text, and a search for them apart from ours."""

from __future__ import annotations

import gzip
import io
import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import Tag

TEXT_VRS = ("AE", "CS", "DA", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UN")
TEXT_VRS += ("UR", "UT", "OB")

# Elements by which a file is read or a series is taken: with other values in them there is no
# case whose outputs could be looked through.
_STEERING = (
    "SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID "
    "Modality RescaleType PhotometricInterpretation NumberOfFrames LossyImageCompression "
    "InstanceNumber SeriesNumber PatientID PatientName PatientBirthDate PatientSex StudyDate "
    "SeriesDate AcquisitionDate AcquisitionDateTime AcquisitionNumber BurnedInAnnotation "
    "PixelPresentation VolumetricProperties VolumeBasedCalculationTechnique PlanarConfiguration "
    "ICCProfile FrameOfReferenceUID ExtendedOffsetTable PresentationIntentType AcquisitionTime "
    "TemporalPositionIdentifier StackID ModalityLUTType ConvolutionKernel QualityControlImage"
)
STEERING = set(_STEERING.split())


@dataclass(frozen=True)
class Planted:
    """An element with a value of its own, and what of it must not come out."""

    keyword: str
    vr: str
    value: object
    needle: str


def _word(n: int) -> str:
    """Six letters that are no word and different for each number."""
    letters = string.ascii_lowercase
    return "zq" + "".join(letters[n // 26**k % 26] for k in range(4))


def planted_elements(vr: str) -> list[Planted]:
    """One for every public attribute of a value representation that a CT image may have."""
    found = []
    for n, (tag, entry) in enumerate(sorted(DicomDictionary.items())):
        keyword = keyword_for_tag(tag)
        if entry[0] == vr and keyword and keyword not in STEERING and 8 <= tag >> 16 < 0x7FE0:
            found.append(Planted(keyword, vr, *_value(vr, n)))
    return found


def _value(vr: str, n: int) -> tuple[object, str]:
    word = _word(n)
    if vr == "IS":
        return 7_000_000 + n, str(7_000_000 + n)
    if vr in ("DA", "DT"):
        date = f"{1930 + n // 300 % 60}{1 + n // 25 % 12:02d}{1 + n % 25:02d}"
        return date + ("101112" if vr == "DT" else ""), date
    if vr == "TM":
        time = f"{n // 3000 % 24:02d}{n // 50 % 60:02d}{10 + n % 50:02d}"
        return time, time
    if vr == "UI":
        return f"1.2.826.0.1.77.{n}.5", f"1.2.826.0.1.77.{n}.5"
    values = {"CS": word.upper(), "AE": word.upper(), "PN": f"{word}^Ada", "UR": f"http://{word}.x"}
    if vr in ("UN", "OB"):
        return f"text {word} end".encode(), word
    return values.get(vr, f"of {word}, told"), word


def plant(dataset: Dataset, elements: Iterable[Planted]) -> None:
    """Put the values into an object."""
    for element in elements:
        dataset.add_new(Tag(element.keyword), element.vr, element.value)


def written(out: Path) -> Iterator[bytes]:
    """Names of files and their bytes, decompressed, Parquet columns too."""
    for path in sorted(out.rglob("*")):
        yield str(path.relative_to(out)).encode()
        if path.is_file():
            raw = path.read_bytes()
            yield gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
            if raw[:4] == b"PAR1":
                yield str(pq.read_table(io.BytesIO(raw)).to_pylist()).encode()


def raw_hits(out: Path, needles: Iterable[str]) -> list[str]:
    """Needles that stand in any byte written, in either case, as UTF-8, Latin-1 or UTF-16.

    A number counts only where no digit touches it: the 39 random digits of a keyed UID hold any
    six of them now and then.
    """
    whole = b"\n".join(written(out)).lower()
    hits = []
    for needle in needles:
        text = needle.lower()
        forms = {text.encode(codec, "ignore") for codec in ("utf-8", "latin-1", "utf-16-le")}
        if any(form and form in whole for form in forms) and (
            not text.isdigit() or re.search(rb"(?<!\d)" + text.encode() + rb"(?!\d)", whole)
        ):
            hits.append(needle)
    return hits
