"""Imported by the process that workers are forked from: all that reading and making cases takes."""

from __future__ import annotations

from pantskit.core.imports import without_collecting

with without_collecting():
    from pantskit.ingest import case as case
    from pantskit.ingest.discovery import reading as reading
    from pantskit.ingest.privacy.own_words import own_words
    from pantskit.measure.compiled import get_ready

    get_ready()
    own_words()
