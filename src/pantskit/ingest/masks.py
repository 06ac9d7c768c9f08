"""Annotations that come with a CT: found, matched to their case, read, named and united."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from pantskit.core.errors import ConfigError, GeometryError, LabelError, PantskitError
from pantskit.core.geometry import Geometry, require_same_grid
from pantskit.core.labels import PANCREAS, STRUCTURES, LabelMap, Mask, find_structure
from pantskit.core.labelsets import COMBINED, SEGMENTATIONS, CaseLabels
from pantskit.core.volume import Volume, read_mask, resample_nearest
from pantskit.ingest.dicom_pixels import read_mask_series
from pantskit.ingest.headers import ImageHeader
from pantskit.ingest.sources import Reader, SourceFile

_PARTS = ("pancreas_head", "pancreas_body", "pancreas_tail")


@dataclass(frozen=True)
class LabelSource:
    """The annotations of one case, where they lie.

    Attributes:
        keys: names that may be its case's: of its folder, of its file.
        place: folder that holds everything of the case.
        map_path: a label map, or None.
        masks: (name, file) of every NIfTI mask.
        series: (name, slices) of every DICOM mask series.
    """

    keys: tuple[str, ...]
    place: PurePosixPath
    map_path: Path | None = None
    masks: tuple[tuple[str, Path], ...] = ()
    series: tuple[tuple[str, tuple[ImageHeader, ...]], ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All its files on disk, an archive once."""
        dicom = {h.file.path for _, slices in self.series for h in slices}
        nifti = [path for _, path in self.masks]
        return (*([self.map_path] if self.map_path else []), *nifti, *sorted(dicom))


@dataclass
class CaseMasks:
    """Masks of one case on one grid, with what is to be said of them.

    Attributes:
        masks: structure to (i, j, k) bool; annotated structures that are empty included.
        geometry: the grid of all of them.
        sources: structure to the names that were united into it.
        unmapped: names of what has no place among the 28 structures.
        faults: what was odd and harmless.
    """

    geometry: Geometry
    masks: dict[str, Mask] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)
    unmapped: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, name: str, structure: str, mask: Mask) -> None:
        """Unite a mask into its structure."""
        self.sources.setdefault(structure, []).append(name)
        if structure in self.masks:
            self.masks[structure] = self.masks[structure] | mask
        else:
            self.masks[structure] = mask


def find_label_sources(
    root: Path, files: Iterable[SourceFile], mask_series: Iterable[Sequence[ImageHeader]]
) -> list[LabelSource]:
    """Annotations under `--labels`, one source a case.

    Args:
        root: the path given.
        files: NIfTI files under it.
        mask_series: DICOM series under it that are not CTs in HU, each with its slices.

    Raises:
        LabelError: If there is nothing that could be an annotation.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        folder = file.path.parent
        folders[folder.parent if folder.name == SEGMENTATIONS else folder].append(file.path)
    found = [source for f, paths in folders.items() for source in _nifti_sources(root, f, paths)]
    by_place: dict[PurePosixPath, list[tuple[str, tuple[ImageHeader, ...]]]] = defaultdict(list)
    for slices in mask_series:
        own = slices[0].file.folder
        # .../<case>/MASKS_DICOM/<structure>/image_0, with an archive standing for a folder.
        by_place[own.parent.parent].append((own.name, tuple(slices)))
    found += [
        LabelSource(_case_keys(place), place, series=tuple(series))
        for place, series in by_place.items()
    ]
    if not found:
        raise LabelError(
            f"{root}: no masks; expected a label map (.nii.gz), a folder of <structure>.nii.gz, "
            "of <case>/<structure>.nii.gz, or DICOM masks in folders named after structures"
        )
    return found


def _nifti_sources(root: Path, folder: Path, paths: list[Path]) -> list[LabelSource]:
    """Sources in one folder: masks of one case, or a label map for each of several."""
    place = PurePosixPath(folder.as_posix())
    masks = [(nifti_stem(p), p) for p in paths if p.name not in (COMBINED, COMBINED[:-3])]
    maps = [p for p in paths if p.name in (COMBINED, COMBINED[:-3])]
    if root.is_file():
        return [LabelSource((nifti_stem(root),), place, map_path=root)]
    if any(find_structure(name) for name, _ in masks):
        return [LabelSource((folder.name,), place, masks=tuple(masks))]
    if maps and not masks:
        return [LabelSource((folder.name,), place, map_path=maps[0])]
    own_folder = len(masks) == 1 and folder != root
    return [
        LabelSource((name, *((folder.name,) if own_folder else ())), place, map_path=path)
        for name, path in masks
    ]


def _case_keys(place: PurePosixPath) -> tuple[str, ...]:
    return (place.name, place.name.removesuffix(".zip"))


def nifti_stem(path: Path) -> str:
    """File name without .nii or .nii.gz."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def match_labels(
    cases: dict[str, tuple[tuple[str, ...], PurePosixPath]], sources: Sequence[LabelSource]
) -> dict[str, LabelSource]:
    """Give each case its annotations.

    Args:
        cases: case_id to (names the labels may go by, the most telling first; folder).
        sources: from `find_label_sources`.

    Returns:
        case_id to source. A source in the case's own folder is its; then names decide, but for
        those that several cases go by; a single case takes a single source whatever its name,
        since the grid is checked.

    Raises:
        ConfigError: If two sources fit one case or one source two, or labels fit no case at all.
    """
    if len(cases) == 1 and len(sources) == 1:
        return {next(iter(cases)): sources[0]}
    by_key: dict[str, list[LabelSource]] = defaultdict(list)
    for source in sources:
        for key in source.keys:
            by_key[key.lower()].append(source)
    bearers = Counter(key for keys, _ in cases.values() for key in {k.lower() for k in keys})
    matched: dict[str, LabelSource] = {}
    for case_id, (keys, folder) in cases.items():
        near = [s for s in sources if s.series and folder.is_relative_to(s.place)]
        # A name such as ct.nii.gz, which other CTs bear too, does not tell whose labels these are.
        named = [by_key.get(k.lower(), []) for k in keys if bearers[k.lower()] == 1]
        fitting = [found for found in (near, *named) if found]
        one = next((found[0] for found in fitting if len(found) == 1), None)
        if fitting and one is None:
            raise ConfigError(
                f"--labels: {len(fitting[0])} annotations are named for one case; keep one"
            )
        if one is not None:
            matched[case_id] = one
    _require_one_case_each(matched)
    if not matched:
        raise ConfigError(
            f"--labels: none of the {len(sources)} annotations found belongs to one of the "
            f"{len(cases)} CTs; name each folder after its CT: <PatientID>, "
            "<PatientID>_<SeriesNumber>, the series' folder, or the CT file without suffix"
        )
    return matched


def _require_one_case_each(matched: dict[str, LabelSource]) -> None:
    cases = Counter(id(source) for source in matched.values())
    for source in matched.values():
        if cases[id(source)] > 1:
            raise ConfigError(
                f"--labels: {source.keys[0]} fits {cases[id(source)]} of the CTs, and labels are "
                "of one; ingest that CT alone, or name them apart"
            )


def read_masks(
    source: LabelSource, label_map: LabelMap | None, reader: Reader, *, case_id: str
) -> CaseMasks:
    """Read a case's annotations into masks of our structures.

    The pancreas is united with its members (its parts, duct and lesion), and made from head,
    body and tail where those are all there and it is not.

    Raises:
        LabelError: If no structure is among them, or label values are outside the map.
        ImageError, GeometryError: If a file cannot be read, or masks differ in grid.
    """
    if source.map_path is not None:
        found = _from_map(source.map_path, label_map, case_id)
    elif source.series:
        read = [(n, partial(_mask_series, n, slices, reader)) for n, slices in source.series]
        found = _united(read, case_id)
    else:
        found = _united([(n, partial(read_mask, path)) for n, path in source.masks], case_id)
    _complete_pancreas(found)
    found.masks = {s: found.masks[s] for s in STRUCTURES if s in found.masks}
    return found


def _from_map(path: Path, label_map: LabelMap | None, case_id: str) -> CaseMasks:
    labels = CaseLabels(case_id, map_path=path, label_map=label_map)
    used = labels.label_map_used()
    volume = labels.combined()
    assert volume is not None
    values = [int(v) for v in np.flatnonzero(np.bincount(volume.array.ravel(order="K"))) if v]
    used.require_known(values, name=f"{case_id}: the label map")
    found = CaseMasks(volume.geometry, faults=list(volume.faults))
    for structure in labels.structures():
        mask = labels.mask(structure)
        assert mask is not None
        found.masks[structure] = mask
        found.sources[structure] = [str(i) for i in used.ids_of(structure)]
    found.unmapped = [used.unmapped.get(v, f"label {v}") for v in values if v not in used.ids]
    return found


def _united(masks: Sequence[tuple[str, Callable[[], Volume]]], case_id: str) -> CaseMasks:
    """Read the masks that have a place among the 28 and unite those of one structure."""
    unmapped = [name for name, _ in masks if find_structure(name) is None]
    found: CaseMasks | None = None
    for name, read in masks:
        structure = find_structure(name)
        if structure is None:
            continue
        volume = read().reoriented()  # masks of one case may differ in axes and be one grid
        if found is None:
            found = CaseMasks(volume.geometry, unmapped=unmapped)
        what = f"{case_id}: mask {name} and the others"
        require_same_grid(volume.geometry, found.geometry, what=what)
        found.add(name, structure, volume.array)
        found.faults += [f"mask {name}: {fault}" for fault in volume.faults]
    if found is None:
        raise LabelError(
            f"{case_id}: none of the masks is one of the 28 structures "
            f"(found {', '.join(unmapped[:8])})"
        )
    return found


def _mask_series(name: str, slices: Sequence[ImageHeader], reader: Reader) -> Volume:
    try:
        return read_mask_series(slices, reader)
    except PantskitError as error:
        raise type(error)(f"mask {name}: {error}") from None


def _complete_pancreas(found: CaseMasks) -> None:
    members = [m for m in STRUCTURES[PANCREAS].members if m in found.masks]
    if PANCREAS not in found.masks:
        if not all(part in found.masks for part in _PARTS):
            return
        found.faults.append("no mask of the whole pancreas; made from head, body and tail")
        found.masks[PANCREAS] = np.zeros_like(found.masks[_PARTS[0]])
    whole = found.masks[PANCREAS]
    outside = 0
    for member in members:
        outside += int((found.masks[member] & ~whole).sum())
        whole = whole | found.masks[member]
    if outside and PANCREAS in found.sources:
        found.faults.append(f"pancreas grew by {outside} voxels of its parts, duct or lesion")
    found.masks[PANCREAS] = whole


def onto_grid(found: CaseMasks, ct: Geometry, *, case_id: str, resample: bool) -> bool:
    """Bring masks to the CT's grid, by axis flips alone unless `resample` allows more.

    Args:
        found: the masks, changed in place.
        ct: the grid of the CT, in standard orientation.
        case_id: for messages.
        resample: take the nearest voxel where the grids differ.

    Returns:
        Whether masks were resampled.

    Raises:
        GeometryError: If the grids differ and `resample` is off, or they do not overlap.
    """
    grid = found.geometry.reoriented()
    same = grid.same_grid(ct)
    if not resample:
        require_same_grid(
            grid,
            ct,
            what=f"{case_id}: label and CT",
            mend="Is it another scan's label? --resample-labels takes the nearest voxels.",
        )
    had_voxels = any(mask.any() for mask in found.masks.values())
    for structure, mask in found.masks.items():
        volume = Volume(mask, found.geometry)
        moved = volume.reoriented() if same else resample_nearest(volume, ct)
        found.masks[structure] = moved.array
    found.geometry = ct
    if not same:
        corners = grid.to_voxel(ct.corners)
        outside = (corners < -0.5) | (corners > np.array(grid.shape) - 0.5)
        if outside.any():
            found.faults.append("labels do not cover the whole CT; outside them nothing is marked")
    if not same and had_voxels and not any(mask.any() for mask in found.masks.values()):
        raise GeometryError(f"{case_id}: label and CT do not overlap; is it another scan's label?")
    return not same
