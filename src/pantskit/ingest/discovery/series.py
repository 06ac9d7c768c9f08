"""From files to series: grouped by what their headers say, never by their names."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pantskit.core.errors import PantskitError
from pantskit.ingest.dicom.geometry import DIRECTION_TOLERANCE
from pantskit.ingest.dicom.headers import CT_IMAGE, ImageHeader
from pantskit.ingest.dicom.stacks import series_stack
from pantskit.ingest.discovery.kinds import reformat_reason, skip_reason, tracking_reason
from pantskit.ingest.discovery.sources import SourceFile
from pantskit.ingest.privacy.identifiers import merged

# A part of a mixed series smaller than this is a stray slice and not a stack of its own.
_SMALLEST_PART = 3
# More stacks than this under one series UID are no scan.
_MOST_PARTS = 64

_IN_ONE_PLACE = (
    "all {} slices lie in one place: one slice scanned again and again, or positions that an "
    "export has lost; send the series again, or take it away"
)


@dataclass(frozen=True)
class Series:
    """Slices that belong to one volume, or why they are none.

    Attributes:
        slices: headers, in order of their files.
        skip: why it is not taken: no CT volume of anatomy, or not the one to take of its
            study; "" for one that is.
        fault: why a CT series cannot become a volume, known before any pixel; "" if none is.
        doubt: why its slices may not be all; "" if nothing says so.
        part: number among the stacks that one series was split into, from 0.
        kind: `skip` as its slices alone say it.
        reformat: why it is a view of another series; "" for a reconstruction of its own.
        content: hash of its files, where no UID tells it from others.
    """

    slices: tuple[ImageHeader, ...]
    skip: str = ""
    fault: str = ""
    doubt: str = ""
    part: int = 0
    kind: str = ""
    reformat: str = ""
    content: str = ""

    @property
    def first(self) -> ImageHeader:
        """A header that speaks for the series."""
        return self.slices[0]

    @property
    def identity(self) -> str:
        """What is the same in every run for this series and no other; secret until keyed.

        The series UID with patient and study; where it is empty, the hash of the files.
        """
        # What is skipped may share its series UID with the scan, as localizers and reformats do.
        kind = (
            self.first.sop_class,
            self.kind or ("reformat" * bool(self.reformat)),
            str(self.part),
        )
        if self.first.series_uid:
            patient = self.first.description.get("PatientID", "")
            stack = (self.first.stack,) if self.first.stack else ()
            return "/".join((patient, self.first.study_uid, self.first.series_uid, *stack, *kind))
        return "/".join((self.content, *kind))

    @property
    def place(self) -> str:
        """Where its files lie and how many they are; for the terminal, since paths identify."""
        files = len({header.file for header in self.slices})
        where = str(self.first.file.folder if files > 1 else self.first.file)
        part = f", stack {self.part + 1}" if self.part else ""
        return f"{where} ({files} {'files' if files > 1 else 'file'}{part})"

    @property
    def identifiers(self) -> dict[str, str]:
        """Identifying values of all its headers."""
        return merged(values for s in self.slices for values in s.identifiers)

    @property
    def is_mask(self) -> bool:
        """Whether its pixels are 8-bit: masks stored as CT images, as 3D-IRCADb ships them."""
        return self.first.sop_class == CT_IMAGE and self.first.bits_allocated == 8


def group_series(
    headers: Iterable[ImageHeader], digests: Mapping[SourceFile, str] | None = None
) -> list[Series]:
    """Series of the headers, each with its reason to be skipped or refused, in file order.

    Args:
        headers: all slices.
        digests: hashes of the files that name no series.
    """
    groups: dict[Any, list[ImageHeader]] = defaultdict(list)
    for header in headers:
        groups[_group_key(header)].append(header)
    return [s for group in groups.values() for s in _split(tuple(group), digests or {})]


def _group_key(header: ImageHeader) -> tuple[Any, ...]:
    # Localizers often share the series UID of the scan they plan; they are set apart here.
    reasons = (skip_reason(header), reformat_reason(header))
    kind = (header.sop_class, header.modality, *reasons, header.stack)
    if header.series_uid:
        return (header.description.get("PatientID"), header.study_uid, header.series_uid, *kind)
    person = (header.description.get("PatientID", ""), header.description.get("PatientName", ""))
    number = header.description.get("SeriesNumber", "")
    return (*person, header.study_uid, number, header.file.folder, *kind)


def _split(slices: tuple[ImageHeader, ...], digests: Mapping[SourceFile, str]) -> list[Series]:
    """One series, or one for each stack that it mixes."""
    skip = skip_reason(slices[0])
    content = _content(slices, digests)
    common: dict[str, Any] = {"reformat": reformat_reason(slices[0]), "content": content}
    if skip:
        return [Series(slices, skip, kind=skip, **common)]
    if fault := _fault(slices):
        return [Series(slices, fault=fault, **common)]
    if len({s.position for s in slices}) == 1:
        if tracking := tracking_reason(slices[0]):
            return [Series(slices, tracking, kind=tracking, **common)]
        if len(slices) > 1:
            # Not skipped: an export may have lost the positions of a scan.
            return [Series(slices, fault=_IN_ONE_PLACE.format(len(slices)), **common)]
    planes = _planes(slices)
    sizes = sorted(map(len, planes))
    if (len(planes) > 1 and sizes[0] < _SMALLEST_PART) or len(planes) > _MOST_PARTS:
        mixed = f"{len(planes)} orientations, sizes or pixel spacings are mixed in one series"
        few = f" ({', '.join(map(str, sizes[:8]))}{' ...' if len(sizes) > 8 else ''} slices)"
        return [Series(slices, fault=f"{mixed}{few}; separate them", **common)]
    parts = [phase for plane in planes for phase in split_phases(plane)]
    # Numbered by what they are and not by their files, which may be renamed.
    parts.sort(key=_content_order)
    return [Series(part, part=n, **common) for n, part in enumerate(parts)]


def _planes(slices: Sequence[ImageHeader]) -> list[list[ImageHeader]]:
    """The slices by size, pixel spacing and direction; more than enough groups end it early."""
    planes: list[list[ImageHeader]] = []
    for header in slices:
        plane = next((p for p in planes if _same_plane_grid(p[0], header)), None)
        if plane is None:
            planes.append(plane := [])
            if len(planes) > _MOST_PARTS:
                break
        plane.append(header)
    return planes


def _same_plane_grid(a: ImageHeader, b: ImageHeader) -> bool:
    """Whether two slices have one size, pixel spacing and direction."""
    assert a.orientation and b.orientation and a.pixel_spacing and b.pixel_spacing
    turned = max(abs(x - y) for x, y in zip(a.orientation, b.orientation, strict=True))
    scaled = max(abs(x - y) for x, y in zip(a.pixel_spacing, b.pixel_spacing, strict=True))
    same_size = (a.rows, a.columns) == (b.rows, b.columns)
    return same_size and turned <= DIRECTION_TOLERANCE and scaled <= DIRECTION_TOLERANCE


def _content_order(slices: Sequence[ImageHeader]) -> tuple[Any, ...]:
    first = min(slices, key=lambda s: (s.acquired, s.instance or 0, s.sop_uid))
    number = int(first.acquisition) if first.acquisition.isdecimal() else 0
    grid = (first.orientation, first.pixel_spacing, first.rows, first.columns)
    return (first.acquired, number, grid, first.sop_uid)


def split_phases(slices: Sequence[ImageHeader]) -> list[tuple[ImageHeader, ...]]:
    """The acquisitions that one series holds, where its headers prove them.

    Slices of several phases lie at the same positions. They are told apart by AcquisitionNumber,
    or by the order in time at each position when no phase begins before the one before it
    has ended. Each must form a whole stack; else all stay together, to be refused for slices at
    one position that differ.

    Args:
        slices: complete headers on one plane grid.
    """
    together = [tuple(slices)]
    at: dict[tuple[float, ...], list[ImageHeader]] = defaultdict(list)
    for header in slices:
        assert header.position is not None
        at[tuple(round(v, 2) for v in header.position)].append(header)
    if all(_one_image(here) for here in at.values()):
        return together
    for phases in (_by_acquisition(slices), _by_time(list(at.values()))):
        if len(phases) > 1 and all(map(_is_stack, phases)):
            return [tuple(phase) for phase in phases]
    return together


def _one_image(here: Sequence[ImageHeader]) -> bool:
    """Whether slices at one position are one image, and copies of it."""
    return len(here) == 1 or (len({s.sop_uid for s in here}) == 1 and here[0].sop_uid != "")


def _by_acquisition(slices: Sequence[ImageHeader]) -> list[list[ImageHeader]]:
    groups: dict[str, list[ImageHeader]] = defaultdict(list)
    for header in slices:
        groups[header.acquisition].append(header)
    return list(groups.values())


def _by_time(positions: Sequence[list[ImageHeader]]) -> list[list[ImageHeader]]:
    """The first slice of each position, the second, and so on; none where times do not tell."""
    counts = {len(here) for here in positions}
    if len(counts) > 1:
        return []
    phases: list[list[ImageHeader]] = [[] for _ in range(counts.pop())]
    for here in positions:
        for phase, header in zip(phases, sorted(here, key=lambda s: s.acquired), strict=True):
            phase.append(header)
    ends = [(min(s.acquired for s in p), max(s.acquired for s in p)) for p in phases]
    apart = all(a[1] < b[0] for a, b in pairwise(ends))
    return phases if apart and ends[0][0] else []


def _is_stack(slices: Sequence[ImageHeader]) -> bool:
    """Whether slices form one whole stack: every position once, none missing."""
    try:
        stack = series_stack(slices)
    except PantskitError:
        return False
    return all(_one_image((slices[a], slices[b])) for a, b in stack.duplicates)


def _content(slices: Sequence[ImageHeader], digests: Mapping[SourceFile, str]) -> str:
    found = sorted({digests[s.file] for s in slices if s.file in digests})
    return hashlib.sha256("".join(found).encode()).hexdigest() if found else ""


def _fault(slices: Sequence[ImageHeader]) -> str:
    """What is wrong with the headers of a CT series, in words; "" if nothing is."""
    if max(s.frames for s in slices) > 1:
        return (
            "multi-frame CT that does not tell where each frame lies; convert it to single-frame "
            "CT images (dcm4che's emf2sf does) and ingest those"
        )
    if fault := next((s.fault for s in slices if s.fault), ""):
        return fault
    missing: Counter[str] = Counter()
    for header in slices:
        missing["position"] += header.position is None
        missing["orientation"] += header.orientation is None
        missing["pixel spacing"] += header.pixel_spacing is None
        missing["size"] += not (header.rows and header.columns)
        missing["rescale slope and intercept"] += None in (header.slope, header.intercept)
    lacking = [f"{n} of {len(slices)} slices lack {what}" for what, n in missing.items() if n]
    if lacking:
        return f"{'; '.join(lacking)}; export the series again, complete"
    if min(min(s.pixel_spacing or (0.0,)) for s in slices) <= 0:
        return "pixel spacing is not above 0"
    if any(s.slope == 0 for s in slices):
        return "rescale slope is 0"
    return ""
