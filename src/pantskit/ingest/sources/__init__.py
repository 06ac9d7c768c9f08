"""Public datasets, and one's own in a common layout, brought into one label space."""

from pantskit.ingest.sources.catalogue import known_sources as known_sources
from pantskit.ingest.sources.catalogue import read_source as read_source
from pantskit.ingest.sources.importing import ImportSettings as ImportSettings
from pantskit.ingest.sources.importing import import_dataset as import_dataset
