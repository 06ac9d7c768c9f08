"""Folders in a common layout: nnU-Net's raw data, MONAI's datalists, flat label maps.

Such a folder says itself what its labels mean, or `--label-map` does. One that `pantskit export`
wrote has `pantskit.json` beside it, which gives back what the format cannot hold.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pantskit.core.errors import ConfigError, DatasetError, LabelError
from pantskit.core.labels import STRUCTURES, LabelMap, find_structure
from pantskit.core.labelsets import CaseLabels
from pantskit.core.volume import read_header
from pantskit.ingest.sources.declaration import SIDED, LabelSet, Layout, Meaning, Source
from pantskit.ingest.sources.layouts import Fitting, FoundCase, fit, list_files

COMMON_FORMATS = ("nnunet", "monai", "flat")
_ALIASES = {"nnunetraw": "nnunet", "nnunetv2": "nnunet", "monaidatalist": "monai"}

SIDECAR = "pantskit.json"
OVERLAPS = "overlaps"
IGNORE = "ignore"

_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_BARE_TUMOUR = re.compile(r"(tumou?r|cancer|lesion|mass|neoplasm|carcinoma)(s|es)?", re.IGNORECASE)
_LISTS = {"training": "train", "validation": "train", "test": "test", "testing": "test"}


@dataclass(frozen=True)
class Exported:
    """What an export of ours says beside its label maps; empty for any other folder.

    Attributes:
        rows: case ID to its row of the metadata.
        annotated: case ID to its annotated structures.
        masks: case ID to the structures that its map cannot hold, each in a file of its own.
        splits: case ID to its split.
        unlabelled: cases without labels.
    """

    rows: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    annotated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    masks: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    unlabelled: frozenset[str] = frozenset()


def common_format(name: str) -> str | None:
    """The common format that a name means (`nnU-Net raw`), or None."""
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    key = _ALIASES.get(key, key)
    return key if key in COMMON_FORMATS else None


def read_common(
    name: str, folders: Sequence[Path], label_map: str | None
) -> tuple[Source, Fitting, Exported]:
    """The cases of a folder in a common layout, and what they mean.

    Args:
        name: one of `COMMON_FORMATS`.
        folders: the folder; for MONAI the datalist may be given itself.
        label_map: what ids mean, as `--label-map` takes it; None for what the folder says.

    Raises:
        ConfigError, DatasetError, LabelError: If it is not such a folder, or does not say what
            its labels mean.
    """
    if len(folders) != 1:
        raise ConfigError(f"{name} takes one folder, not {len(folders)}")
    given = LabelMap.parse(label_map) if label_map else None
    read = {"nnunet": _nnunet, "monai": _monai, "flat": _flat}[name]
    source, fitting, root = read(folders[0], given)
    exported, own = _sidecar(root)
    if own is not None and given is None:
        source = replace(source, labelsets={"": own})
    if not source.labelsets:
        raise LabelError(
            f"{root}: nothing says what the label values mean; give --label-map (a known name, a "
            "file, or 1=pancreas,2=pancreatic_lesion)"
        )
    known = sum(len(masks) for masks in exported.masks.values())
    fitting = replace(fitting, others=max(0, fitting.others - known))
    return source, _as_exported(fitting, exported), exported


def _as_exported(fitting: Fitting, exported: Exported) -> Fitting:
    """The cases with the splits and patients that an export of ours had."""
    cases = tuple(
        replace(
            case,
            split=exported.splits.get(case.case_id, case.split),
            patient_id=str(
                exported.rows.get(case.case_id, {}).get("patient_id") or case.patient_id
            ),
        )
        for case in fitting.cases
    )
    return replace(fitting, cases=cases)


def _source(name: str, root: Path, labels: LabelSet | None, layouts: tuple[Layout, ...]) -> Source:
    title = f"{root.name} ({name})"
    return Source(
        root.name,
        title,
        url="",
        license="as of its source",
        terms="",
        citation="",
        layouts=layouts,
        labelsets={} if labels is None else {"": labels},
        case="{id}",
        unlabelled=True,
    )


def _nnunet(folder: Path, given: LabelMap | None) -> tuple[Source, Fitting, Path]:
    root = _root_with(folder, "dataset.json")
    data = _json(root / "dataset.json")
    channels = data.get("channel_names") or data.get("modality") or {"0": "CT"}
    ct = [int(n) for n, what in channels.items() if "ct" in str(what).lower()]
    if (len(channels) > 1 and len(ct) != 1) or "mri" in str(channels).lower():
        raise DatasetError(f"{root}: its channels are {channels}; one CT is expected")
    ending = str(data.get("file_ending", ".nii.gz"))
    if not _SUFFIX.search(ending):
        raise DatasetError(f"{root}: its files end in {ending}; NIfTI is expected")
    numbered = any((root / "imagesTr").glob("*_0000.nii*"))
    suffix = f"_{ct[0] if ct else 0:04d}" if numbered else ""
    layouts = tuple(
        Layout(
            f"images{part}", f"images{part}/{{id}}{suffix}.nii", f"labels{part}/{{id}}.nii", split=s
        )
        for part, s in (("Tr", "train"), ("Ts", "test"))
    )
    labels = from_label_map(given) if given else _said(data, root / "dataset.json")
    source = _source("nnU-Net", root, labels, layouts)
    return source, fit(source, [root]), root


def _flat(folder: Path, given: LabelMap | None) -> tuple[Source, Fitting, Path]:
    layouts = (
        Layout("images and labels", "images/{id}.nii", "labels/{id}.nii"),
        Layout("label maps alone", "images/{id}.nii", "{id}.nii"),
    )
    sidecar = (folder / SIDECAR).is_file()
    source = _source("label maps", folder, LabelSet(), layouts[:1] if sidecar else layouts)
    fitting = fit(source, [folder])
    labels = from_label_map(given) if given else None if sidecar else _declared_by_files(fitting)
    return replace(source, labelsets={} if labels is None else {"": labels}), fitting, folder


def _declared_by_files(fitting: Fitting) -> LabelSet | None:
    """What the maps, or a dataset.json beside them, say that their ids mean.

    Raises:
        LabelError: If they say nothing, or one thing here and another there.
    """
    paths = [case.labels[0] for case in fitting.cases if case.labels and not case.fault]
    spaces = {read_header(path).label_space for path in paths}
    if len(spaces) > 1:
        raise LabelError(
            f"label maps of several label spaces in one folder: {sorted(map(str, spaces))}"
        )
    return from_label_map(CaseLabels("", map_path=paths[0]).label_map_used()) if paths else None


def _monai(path: Path, given: LabelMap | None) -> tuple[Source, Fitting, Path]:
    file = path if path.is_file() else _datalist_in(path)
    data = _json(file)
    root = file.parent
    layout = Layout("datalist", "{id}.nii", "{id}.nii")
    labels = from_label_map(given) if given else None
    if labels is None and "labels" in data:
        labels = _said(data, file)
    source = _source("MONAI", root, labels, (layout,))
    listed = [
        _listed(entry, root, replace(layout, split=split), file)
        for key, split in _LISTS.items()
        for entry in data.get(key, ())
    ]
    cases: dict[str, FoundCase] = {}
    for case in _named_apart(listed):
        if case.case_id in cases:
            raise DatasetError(f"{file}: {case.case_id} is listed twice; name files apart")
        cases[case.case_id] = case
    if not cases:
        raise DatasetError(f"{file}: lists no case under {', '.join(_LISTS)}")
    ordered = tuple(cases[c] for c in sorted(cases))
    labelled = sum(bool(case.labels) for case in ordered)
    return source, Fitting(ordered, ((layout, len(ordered), labelled),), 0), root


def _listed(entry: Any, root: Path, layout: Layout, file: Path) -> FoundCase:
    row = entry if isinstance(entry, dict) else {"image": entry}
    image, label = row.get("image"), row.get("label")
    if isinstance(image, list):
        image = image[0] if len(image) == 1 else None
    if not isinstance(image, str):
        raise DatasetError(f"{file}: an entry names no single image: {str(entry)[:80]}")
    paths = [root / p for p in (image, label) if isinstance(p, str)]
    missing = [p.name for p in paths if not p.is_file()]
    name = re.sub(r"_0000$", "", _SUFFIX.sub("", Path(image).name))
    return FoundCase(
        name,
        name,
        layout.split,
        layout,
        images=tuple(p for p in paths[:1] if p.is_file()),
        labels=tuple(p for p in paths[1:] if p.is_file()),
        groups={"id": name, "folder": Path(image).parent.name},
        fault=f"{', '.join(missing)} is listed in {file.name} and not there" if missing else "",
    )


def _named_apart(cases: list[FoundCase]) -> list[FoundCase]:
    """Where a folder a patient holds files of one name (`a/ct.nii.gz`), its name comes before."""
    times = Counter(case.case_id for case in cases)
    apart = []
    for case in cases:
        folder = re.sub(r"[^A-Za-z0-9._-]+", "_", case.groups["folder"]).strip(".")
        if times[case.case_id] > 1 and folder:
            name = f"{folder}_{case.case_id}"
            case = replace(case, case_id=name, patient_id=name)
        apart.append(case)
    return apart


def _datalist_in(folder: Path) -> Path:
    found = [
        file
        for file in list_files([folder])
        if file.suffix == ".json" and file.name != SIDECAR and set(_json(file)) & set(_LISTS)
    ]
    if len(found) != 1:
        names = ", ".join(f.name for f in found[:5]) or "none"
        raise DatasetError(f"{folder}: expected one datalist (.json with training), found {names}")
    return found[0]


def _root_with(folder: Path, name: str) -> Path:
    """The folder itself or its only subfolder that holds a file."""
    if (folder / name).is_file():
        return folder
    found = sorted(p.parent for p in folder.glob(f"*/{name}")) if folder.is_dir() else []
    if len(found) != 1:
        inside = ", ".join(p.name for p in found[:5]) or "none"
        raise DatasetError(f"{folder}: expected {name} in it; folders with one: {inside}")
    return found[0]


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from None
    return data if isinstance(data, dict) else {}


def from_label_map(label_map: LabelMap) -> LabelSet:
    """A label map as a dataset's label set."""
    ids = {i: Meaning("+".join(group), tuple(group)) for i, group in label_map.ids.items()}
    ids |= {i: Meaning(name) for i, name in label_map.unmapped.items()}
    return LabelSet(ids, annotated=label_map.annotated, unlisted=label_map.max_id)


def _said(data: Mapping[str, Any], path: Path) -> LabelSet | None:
    """What the folder says itself; None for an export of ours, which says it in its own file."""
    return None if (path.parent / SIDECAR).is_file() else _declared(data, path)


def _declared(data: Mapping[str, Any], path: Path) -> LabelSet:
    """From the `labels` of a dataset.json: `{"1": "liver"}`, `{"liver": 1}`, or regions.

    Raises:
        LabelError: If an entry cannot be read, or is a tumour of an organ that is not named.
    """
    names: dict[int, list[str]] = {}
    for key, value in dict(data.get("labels", {})).items():
        name, numbers = (value, [key]) if str(key).isdigit() else (key, value)
        for number in numbers if isinstance(numbers, list) else [numbers]:
            if not str(number).isdigit() or not isinstance(name, str):
                raise LabelError(f"{path}: labels: {key!r}: {value!r} has no integer id and name")
            if int(number):
                names.setdefault(int(number), []).append(name)
    bare = [n for group in names.values() for n in group if _BARE_TUMOUR.fullmatch(n.strip())]
    if bare:
        raise LabelError(
            f"{path}: label {bare[0]!r} is of an organ that it does not name; say which with "
            "--label-map, as msd_pancreas or 1=pancreas,2=pancreatic_lesion"
        )
    if any(n == IGNORE for group in names.values() for n in group):
        raise LabelError(
            f"{path}: has an ignore label: which structures are drawn whole in which case is not "
            "said; leave those cases out, or say what is annotated with --label-map FILE"
        )
    ids = {i: _meaning(group) for i, group in sorted(names.items())}
    labels = LabelSet(ids)
    # In nnU-Net's and MONAI's training every label is one of every case.
    return replace(labels, annotated=labels.structures)


def _meaning(names: Sequence[str]) -> Meaning:
    structures = [find_structure(name) for name in names]
    bases = [_base(name) for name in names]
    return Meaning(
        " + ".join(names),
        tuple(dict.fromkeys(s for s in structures if s)),
        tuple(dict.fromkeys(b for b, s in zip(bases, structures, strict=True) if b and not s)),
    )


def _base(name: str) -> str | None:
    """Both sides under one name: `"kidneys"`, `"adrenal gland"`."""
    plain = re.sub(r"[^a-z]", "", name.lower()).removesuffix("s")
    plain = {"adrenal": "adrenalgland"}.get(plain, plain)
    return next((base for base in SIDED if base.replace("_", "") == plain), None)


def _sidecar(root: Path) -> tuple[Exported, LabelSet | None]:
    """What an export of ours says of itself."""
    if not (root / SIDECAR).is_file():
        return Exported(), None
    data = _json(root / SIDECAR)
    try:
        cases = data["cases"]
        labels = LabelSet(
            {int(i): Meaning(s, (s,) if s in STRUCTURES else ()) for i, s in data["labels"].items()}
        )
        return Exported(
            rows={c: dict(row["row"]) for c, row in cases.items()},
            annotated={c: tuple(row["annotated"]) for c, row in cases.items()},
            masks={
                c: {s: root / OVERLAPS / c / f"{s}.nii.gz" for s in row["masks"]}
                for c, row in cases.items()
            },
            splits={c: str(row["split"]) for c, row in cases.items()},
            unlabelled=frozenset(c for c, row in cases.items() if not row["annotated"]),
        ), labels
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{root / SIDECAR}: damaged: {error!r}; export again") from None
