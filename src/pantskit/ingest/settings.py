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
        split: `"train"` or `"test"`.
        site: name of the site for these sources; None gives each institution a pseudonym.
        name: of a new dataset.
        key: file of the key of the pseudonyms; None is `<dataset>.key` beside it.
        workers: processes.
        timeout_s: a case that takes longer is failed.
    """

    labels: Path | None = None
    label_map: str | None = None
    resample_labels: bool = False
    split: str = "train"
    site: str | None = None
    name: str | None = None
    key: Path | None = None
    workers: int = 1
    timeout_s: float | None = 1800.0
