"""A quick look at a training's cases, before hours are spent on them.

Headers, grids, and whether files end where they should: milliseconds a file. What only their
voxels show, such as values that are not finite, the reading that follows finds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pantskit.core.dataset import Case
from pantskit.core.errors import GeometryError, ImageError, LabelError, PantskitError
from pantskit.core.geometry import Geometry, require_same_grid
from pantskit.core.gzipped import DAMAGED, decompressed_chunks
from pantskit.core.run import Job
from pantskit.core.volume import Header, read_header

LOOK_STAGE = "look"


def look_job(case: Case) -> Job:
    """The job of `look_at_case`; it is done again when a file has another size or date."""
    files = [case.image_path]
    try:
        labels = case.labels()
        files += labels.paths if labels else ()
    except PantskitError:
        pass  # the look says why
    return Job(case.case_id, case, settings=[_state(path) for path in files])


def look_at_case(job: Job) -> dict[str, Any]:
    """Look at the files of a case without reading their voxels.

    Returns:
        Structures that it annotates, as far as files and headers tell.

    Raises:
        ImageError, GeometryError, LabelError: If a file is missing, is no image, was cut
            short, or lies on another grid than the CT; or if nothing is annotated.
    """
    case: Case = job.payload
    try:
        header = read_header(case.image_path)
        geometry = header.geometry
        require_whole(case.image_path, header)
        labels = case.labels()
        if labels is None or not labels.paths:
            raise LabelError("has no labels; leave it out with --cases, or annotate it")
        for path in labels.paths:
            _look_at_labels(path, geometry)
        if labels.mask_paths:
            return {"structures": labels.structures()}
        return {"label_map": sorted(labels.label_map_used().structures)}
    except (ImageError, GeometryError, LabelError) as error:
        named = str(error).startswith(f"{case.case_id}: ")
        raise type(error)(str(error) if named else f"{case.case_id}: {error}") from None


def require_whole(path: Path, header: Header) -> None:
    """Refuse an image file that ends before its voxels do.

    Of a gzip the size in its last four bytes decides; only where it does not fit is the
    file read: it may be made of several parts, or hold more than the image.

    Raises:
        ImageError: If the file was cut short, or its compression is damaged.
    """
    expected = header.offset + header.n_bytes
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        size = file.seek(0, 2)
        if zipped:
            file.seek(max(0, size - 4))
            size = int.from_bytes(file.read(4), "little")
    if size == expected % 2**32 if zipped else size >= expected:
        return
    try:
        found = sum(len(chunk) for chunk in decompressed_chunks(path)) if zipped else size
    except DAMAGED as error:
        raise ImageError(f"{path}: damaged gzip ({error}); copy it again") from None
    if found < expected:
        raise ImageError(
            f"{path}: file ends before its {header.n_bytes} bytes of voxels; it was cut short, "
            "copy it again"
        )


def _look_at_labels(path: Path, geometry: Geometry) -> None:
    if path.suffix.lower() == ".npz":  # masks of the first release, without a header
        if not path.is_file():
            raise LabelError(f"{path}: no such file")
        return
    header = read_header(path)
    require_same_grid(header.geometry, geometry, what=f"{path.name} and CT")
    require_whole(path, header)


def _state(path: Path) -> list[Any]:
    try:
        status = path.stat()
        return [path.name, status.st_size, status.st_mtime_ns]
    except OSError as error:
        return [path.name, error.errno]
