"""Enhanced (multi-frame) CT: what its functional groups say of each frame.

Attributes that single images have at the top stand in sequences here: in the shared functional
groups where all frames agree, else in those of each frame (DICOM PS3.3 C.7.6.16, C.8.15.3, and
A.70 for objects converted from single images).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset

from pantskit.core.errors import ImageError
from pantskit.ingest.dicom.values import integer_of, number_of, numbers_of, text_of, words_of


def frame_attributes(dataset: Dataset, count: int) -> list[dict[str, Any]]:
    """Fields of `ImageHeader` that differ between the frames of one object.

    Args:
        dataset: the header of the object.
        count: its NumberOfFrames.

    Returns:
        A dict a frame; its `description` adds to that of the object. Where the groups say
        nothing of position, orientation, pixel spacing or rescale the value is None: those at
        the top of the object, if any, count for no frame.

    Raises:
        ImageError: If the frames described are not as many as the frames announced.
    """
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if len(groups) != count:
        raise ImageError(
            f"enhanced CT of {count} frames whose header describes {len(groups)} of them; "
            "export it again, complete"
        )
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), Dataset())
    return [_Frame(group, shared).attributes(n) for n, group in enumerate(groups)]


class _Frame:
    """One frame's functional groups, those of its own before those it shares."""

    def __init__(self, own: Dataset, shared: Dataset) -> None:
        self._groups = (own, shared)

    def _items(self, sequence: str) -> Iterator[Dataset]:
        for group in self._groups:
            yield from (group.get(sequence) or ())[:1]

    def _get(self, sequence: str, keyword: str) -> Any:
        found = (item.get(keyword) for item in self._items(sequence))
        return next((value for value in found if value is not None), None)

    def attributes(self, frame: int) -> dict[str, Any]:
        """Fields of an `ImageHeader`."""
        content, values = "FrameContentSequence", "PixelValueTransformationSequence"
        fields = {
            "frame": frame,
            "frames": 1,
            "stack": self._stack(),
            "position": _of_length(self._get("PlanePositionSequence", "ImagePositionPatient"), 3),
            "orientation": _of_length(
                self._get("PlaneOrientationSequence", "ImageOrientationPatient"), 6
            ),
            "pixel_spacing": _of_length(self._get("PixelMeasuresSequence", "PixelSpacing"), 2),
            "slope": number_of(self._get(values, "RescaleSlope")),
            "intercept": number_of(self._get(values, "RescaleIntercept")),
            "rescale_type": (text_of(self._get(values, "RescaleType")) or "").upper(),
            "instance": integer_of(self._get(content, "InStackPositionNumber")),
        }
        told = {
            "description": self._described(),
            "acquired": text_of(self._get(content, "FrameAcquisitionDateTime")),
            "acquisition": text_of(self._get(content, "FrameAcquisitionNumber")),
            "kernel": "\\".join(
                words_of(self._get("CTReconstructionSequence", "ConvolutionKernel"))
            ),
            "image_type": self._image_type(),
            "tilt": number_of(self._get("CTAcquisitionDetailsSequence", "GantryDetectorTilt")),
        }
        return fields | {
            name: value for name, value in told.items() if value not in (None, "", (), {})
        }

    def _image_type(self) -> tuple[str, ...]:
        """FrameType, and how the frame was computed from others where it was (MAX_IP, MPR)."""
        sequence = "CTImageFrameTypeSequence"
        words = tuple(word.upper() for word in words_of(self._get(sequence, "FrameType")))
        computed = (text_of(self._get(sequence, "VolumeBasedCalculationTechnique")) or "").upper()
        return (*words, computed) if words and computed not in ("", "NONE", "MIXED") else words

    def _described(self) -> dict[str, str]:
        """Of the attributes that describe a scan, those that stand in functional groups."""
        told = {
            "SliceThickness": text_of(self._get("PixelMeasuresSequence", "SliceThickness")),
            "KVP": text_of(self._get("CTXRayDetailsSequence", "KVP")),
        }
        return {keyword: text for keyword, text in told.items() if text}

    def _stack(self) -> str:
        """Stack and temporal position: frames of another are another volume."""
        content = "FrameContentSequence"
        parts = [text_of(self._get(content, k)) for k in ("StackID", "TemporalPositionIndex")]
        return "/".join(part or "" for part in parts) if any(parts) else ""


def _of_length(value: Any, length: int) -> tuple[float, ...] | None:
    numbers = numbers_of(value)
    return numbers if numbers is not None and len(numbers) == length else None
