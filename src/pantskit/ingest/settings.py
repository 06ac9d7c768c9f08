"""How a run of ingest is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class IngestSettings:
    """How sources become cases.

    Attributes:
        labels: annotations: a label map, a folder of masks, DICOM masks; None without.
        label_map: what the ids of label maps mean, as `--label-map` takes it.
        resample_labels: whether labels on another grid are resampled instead of refused.
        resample_tilt: whether slices of a tilted gantry are resampled instead of refused.
        resample_spacing: whether slices at varying distances are resampled instead of refused.
        series: which series of a study become cases: `"best"` of each acquisition, the best of
            each `"study"`, or `"all"`.
        prefer: what makes a series the best, the most important first; empty for the default.
        clinical: table of age, sex and diagnosis by patient ID, or None.
        export_dicom: folder for de-identified DICOM of every case made from DICOM, or None.
        split: `"train"` or `"test"`.
        site: name of the site for these sources; None gives each institution a pseudonym.
        name: of a new dataset.
        key: file of the key of the pseudonyms; None is `<dataset>.key` beside it.
        workers: processes.
        cluster: address of a Dask scheduler whose workers take the place of processes here.
        timeout_s: a case that takes longer is failed.
        memory_mb: memory that all workers together may take; None for most of what is free.
    """

    labels: Path | None = None
    label_map: str | None = None
    resample_labels: bool = False
    resample_tilt: bool = False
    resample_spacing: bool = False
    series: str = "best"
    prefer: tuple[str, ...] = ()
    clinical: Path | None = None
    export_dicom: Path | None = None
    split: str = "train"
    site: str | None = None
    name: str | None = None
    key: Path | None = None
    workers: int = 1
    cluster: str | None = None
    timeout_s: float | None = 1800.0
    memory_mb: float | None = None

    @property
    def allowed(self) -> tuple[str, ...]:
        """What may be wrong with a stack of slices: it is resampled then."""
        tilt = ("tilt",) if self.resample_tilt else ()
        return (*tilt, "spacing") if self.resample_spacing else tilt
