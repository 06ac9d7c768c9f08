"""Checksums of a file while it passes."""

from __future__ import annotations

import hashlib

from pantskit.ingest.download.declared import RemoteFile
from pantskit.ingest.download.errors import BadArchiveError
from pantskit.ingest.download.streams import Stream


class Checksums:
    """Those that were published for a file, computed from its bytes.

    Args:
        file: as declared.
    """

    def __init__(self, file: RemoteFile) -> None:
        # MD5 against damage only, where nothing better was published.
        self._md5 = hashlib.md5(usedforsecurity=False) if file.md5 and not file.sha256 else None
        self._sha256 = hashlib.sha256() if file.sha256 or file.on_hub else None
        self._whole = False

    def begin(self, start: int) -> None:
        """Say at which byte the file is read from; a part of it has no checksum."""
        self._whole = start == 0

    def update(self, block: bytes) -> None:
        """Take in bytes."""
        if self._whole and self._sha256:
            self._sha256.update(block)
        if self._whole and self._md5:
            self._md5.update(block)

    def require(self, file: RemoteFile, stream: Stream) -> str:
        """Compare with what was published.

        Returns:
            Which checksum was compared: sha256, md5; "" where none could be.

        Raises:
            BadArchiveError: If it differs.
        """
        wanted = file.sha256 or stream.sha256
        if not self._whole:
            return ""
        if self._sha256 and wanted:
            self._compare(file, "SHA-256", self._sha256.hexdigest(), wanted)
            return "sha256"
        if self._md5:
            self._compare(file, "MD5", self._md5.hexdigest(), file.md5)
            return "md5"
        return ""

    @staticmethod
    def _compare(file: RemoteFile, kind: str, found: str, wanted: str) -> None:
        if found != wanted:
            raise BadArchiveError(
                f"{file.name}: its {kind} is {found}, {wanted} was published: damaged on the way "
                "or another version; nothing of it is kept"
            )
