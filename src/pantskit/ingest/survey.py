"""The sources of a run, looked through: what is there, which of it to take, which annotations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pantskit.core.crew import Crew
from pantskit.core.errors import ConfigError
from pantskit.ingest.discovery.choice import choose
from pantskit.ingest.discovery.discover import (
    Found,
    discover,
    discover_labels,
    unread_formats,
)
from pantskit.ingest.discovery.outlook import is_whole
from pantskit.ingest.discovery.reading import Progress
from pantskit.ingest.discovery.series import Series
from pantskit.ingest.labels.sources import LabelSource, volume_stem
from pantskit.ingest.settings import IngestSettings


def survey(
    sources: Sequence[Path],
    settings: IngestSettings,
    *,
    out: Path | None = None,
    workers: Crew | None = None,
    progress: Progress | None = None,
) -> tuple[Found, list[LabelSource]]:
    """Look through the sources of a run.

    Args:
        sources: folders, files, archives, a DICOMDIR.
        settings: `labels`, `series`, `prefer`, `export_dicom` and what may be resampled count.
        out: the dataset that is written to. Neither it nor the exported DICOM is a source, though
            they may lie in one.
        workers: processes to parse headers in; None parses them here.
        progress: called with the number of files seen so far.

    Returns:
        What the sources hold, without annotations and with the series that are not to be taken
        skipped; and the annotations.

    Raises:
        ConfigError: If a source is missing or the dataset itself, nothing in them is an image, or
            the choice of series is unknown.
        LabelError: If `labels` holds nothing that could be an annotation.
    """
    own = [folder for folder in (out, settings.export_dicom) if folder]
    _require_no_output(sources, own)
    found = discover(
        sources, leave=settings.labels, without=own, workers=workers, progress=progress
    )
    if found.empty:
        raise ConfigError(f"{', '.join(map(str, sources))}: {_nothing(found, settings)}")
    labels: list[LabelSource] = []
    if settings.labels:
        # An archive that holds scans and masks is looked through once.
        same = list(sources) == [settings.labels] and settings.labels.is_file()
        images = [file.path for file in found.volumes if not file.member]
        labels = discover_labels(
            settings.labels,
            images,
            found if same else None,
            cases=_names_of_cts(found),
            workers=workers,
        )
        taken = {header.file for source in labels for header in source.headers}
        found.series = [s for s in found.series if s.first.file not in taken]
    # After that: a mask must not take the place of a scan.
    found.series = choose(
        found.series,
        settings.series,
        settings.prefer,
        usable=partial(is_whole, allowed=settings.allowed),
        annotated=partial(_annotated, _Told(labels)),
    )
    return found, labels


def _nothing(found: Found, settings: IngestSettings) -> str:
    """Why sources hold no image."""
    if found.annotations:
        return (
            f"its {found.annotations} volume files all lie in --labels {settings.labels}, so they "
            "are annotations; name the files of the CTs as sources, or give the folder of the "
            "masks alone as --labels"
        )
    if not found.others:
        return "there are no files"
    unread = unread_formats(found.unread)
    among = f"no DICOM, NIfTI or NRRD among its {found.others} files"
    return f"{among}; {unread}" if unread else among


def _require_no_output(sources: Sequence[Path], own: Sequence[Path]) -> None:
    for source in sources:
        for folder in own:
            if source.resolve().is_relative_to(folder.resolve()):
                raise ConfigError(
                    f"{source}: a source lies in {folder}, which this run writes to; give another "
                    "folder for the output"
                )


def _names_of_cts(found: Found) -> set[str]:
    """What the files of label maps may be called after."""
    stems = [volume_stem(file.name) for file in found.volumes]
    series = [s.first for s in found.series if not s.skip]
    patients = [first.description.get("PatientID", "") for first in series]
    numbers = [first.description.get("SeriesNumber", "") for first in series]
    return {
        *stems,
        *(stem.removesuffix("_0000") for stem in stems),
        *patients,
        *(f"{patient}_{number}" for patient, number in zip(patients, numbers, strict=True)),
        *(first.file.folder.name for first in series),
    }


class _Told:
    """What annotations say of the series they were drawn on.

    Attributes:
        uids: SeriesInstanceUIDs they refer to.
        names: names that they go by.
    """

    def __init__(self, labels: Sequence[LabelSource]) -> None:
        self.uids = {uid for s in labels for o in s.objects for uid in o.references.series}
        self.names = {key for s in labels if not s.objects for key in s.keys}


def _annotated(told: _Told, series: Series) -> bool:
    first = series.first
    number = f"{first.description.get('PatientID', '')}_{first.description.get('SeriesNumber', '')}"
    folder = first.file.folder.name
    return first.series_uid in told.uids or bool({number, folder} & told.names)
