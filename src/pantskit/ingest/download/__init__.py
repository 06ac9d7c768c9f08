"""Public datasets fetched from where they lie, unpacked while they arrive."""

from pantskit.ingest.download.declared import Download as Download
from pantskit.ingest.download.declared import known_downloads as known_downloads
from pantskit.ingest.download.declared import read_download as read_download
from pantskit.ingest.download.plan import Wanted as Wanted
from pantskit.ingest.download.plan import plan_download as plan_download
from pantskit.ingest.download.run import download as download
