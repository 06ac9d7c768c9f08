"""Ingest: DICOM series and NIfTI images to a standard, de-identified dataset."""

from pantskit.ingest.pipeline import IngestSummary as IngestSummary
from pantskit.ingest.pipeline import ingest as ingest
from pantskit.ingest.settings import IngestSettings as IngestSettings
