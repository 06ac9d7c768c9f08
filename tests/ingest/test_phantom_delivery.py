"""Deliveries of the phantom hospitals become the dataset that the phantom wrote itself."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pantskit.core.dataset import Dataset
from pantskit.core.volume import Volume, read_volume
from pantskit.ingest import IngestSettings, ingest
from pantskit.phantom.cohort import make_cohort
from pantskit.phantom.scans import CohortPlan

SITES = ("northfield", "suedstadt", "harbour")


@pytest.fixture(scope="module")
def delivered(tmp_path_factory) -> tuple[Dataset, dict[str, Any], Dataset, dict[str, str]]:
    """The phantom's own dataset, the manifest, the ingested one, and series UID to case."""
    root = tmp_path_factory.mktemp("delivered")
    plan = CohortPlan(cases=3, seed=5, size="small", tumor_rate=1.0, sites=3)
    make_cohort(plan, root / "truth", dicom=root / "dicom", refine=0, workers=0)
    case_of: dict[str, str] = {}
    for site in SITES:
        settings = IngestSettings(labels=root / "dicom" / site / "labels", site=site, workers=0)
        summary = ingest([root / "dicom" / site], root / "made", settings)
        assert summary.run.exit_status == 0, summary.run.records
        for case_id, item in summary.planned.items():
            if not item.plan.skip:
                case_of[item.plan.slices[0].series_uid] = case_id
    manifest = json.loads((root / "dicom" / "manifest.json").read_text())
    return Dataset.open(root / "truth"), manifest, Dataset.open(root / "made"), case_of


def test_every_series_is_a_case_with_the_phantom_s_own_voxels(delivered):
    truth, manifest, made, case_of = delivered
    assert len(made.cases()) == len(manifest["series"]) == 3
    for entry in manifest["series"]:
        expected = read_volume(truth.case(entry["case_id"]).image_path).reoriented()
        found = read_volume(made.case(case_of[entry["series_uid"]]).image_path)
        np.testing.assert_array_equal(found.array, np.clip(expected.array, -1000, 1000))
        np.testing.assert_allclose(found.geometry.affine, expected.geometry.affine, atol=1e-3)


def test_all_28_masks_are_the_phantom_s_whatever_the_site_calls_them(delivered):
    truth, manifest, made, case_of = delivered
    for entry in manifest["series"]:
        expected = truth.case(entry["case_id"]).labels()
        found = made.case(case_of[entry["series_uid"]]).labels()
        assert expected is not None
        assert found is not None
        assert len(found.structures()) == 28
        for structure in expected.structures():
            mask = expected.mask(structure)
            assert mask is not None
            there = Volume(mask, expected.geometry).reoriented().array
            np.testing.assert_array_equal(found.mask(structure), there, err_msg=structure)


def test_metadata_are_the_phantom_s_facts(delivered):
    truth, manifest, made, case_of = delivered
    for entry in manifest["series"]:
        expected = truth.metadata[entry["case_id"]]
        found = made.metadata[case_of[entry["series_uid"]]]
        for column in ("phase", "sex", "study_year", "lesions", "site"):
            assert found[column] == expected[column], column


# What is random holds a short word or a number now and then: pseudonyms, hashes, the digits of a
# fraction (a time of day in one of a million places), and packed bytes.
_RANDOM = re.compile(
    rb"(?<![a-z0-9.])"
    rb"(?:(?:case|patient|site)_[a-z2-7]{12}|[0-9a-f]{32}|\d+\.\d{7,}(?:e[-+]?\d+)?)"
    rb"(?![a-z0-9.])"
)
_LONG = 9  # letters that chance does not put side by side


def content(path: Path) -> bytes:
    """What a file holds, unpacked and in lower case, without what is random."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(raw).lower()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        raw = repr((table.schema.names, table.to_pylist())).encode()
    if path.suffix == ".xlsx":
        with zipfile.ZipFile(path) as packed:
            raw = b"\n".join(packed.read(name) for name in packed.namelist())
    return _RANDOM.sub(b"", raw.lower())


def test_no_planted_identifier_is_in_any_byte(delivered):
    _, manifest, made, _ = delivered
    files = [path for path in sorted(made.root.rglob("*")) if path.is_file()]
    names = b"\n".join(bytes(path.relative_to(made.root)) for path in made.root.rglob("*"))
    as_they_are = b"\n".join((names, *(path.read_bytes() for path in files))).lower()
    unpacked = b"\n".join((_RANDOM.sub(b"", names.lower()), *map(content, files)))
    planted: set[str] = set()
    for entry in manifest["series"]:
        planted |= {entry["series_uid"], entry["study_uid"], Path(entry["labels_folder"]).name}
        for value in entry["identifiers"].values():
            planted |= {value, *re.findall(r"[^\W\d_]{5,}", value)}
    # A site's own name is given on purpose (--site), and some words are not theirs alone.
    planted -= {"Referring", "Performing", "discharge", "before", "reported", "exported"}
    planted = {v for v in planted if not any(v.lower() in site for site in SITES)}
    assert [v for v in planted if v.lower().encode() in unpacked] == []
    assert [v for v in planted if len(v) >= _LONG and v.lower().encode() in as_they_are] == []
