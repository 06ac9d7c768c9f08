"""Imported by the process that workers are forked from: all that reading and making cases takes."""

from __future__ import annotations

from pantskit.ingest import case as case
from pantskit.ingest.discovery import reading as reading
from pantskit.measure.compiled import get_ready

get_ready()
