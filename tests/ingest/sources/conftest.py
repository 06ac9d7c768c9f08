"""The phantom that all miniatures are made of, and a way to import one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import Miniature

from pantskit.core.dataset import Dataset
from pantskit.core.records import CaseRecord
from pantskit.ingest.sources import ImportSettings, import_dataset
from pantskit.phantom.case import make_case
from pantskit.phantom.scans import CohortPlan, plan_scan


@pytest.fixture(scope="session")
def mini() -> Miniature:
    """A small phantom with a tumour, a man, so that all 28 structures are there."""
    plan = CohortPlan(cases=8, seed=3, tumor_rate=1.0, sites=1)
    man = next(n for n in range(8) if plan_scan(plan, n).patient.sex == "M")
    return Miniature(make_case(plan, man))


class Imported:
    """What an import made."""

    def __init__(self, root: Path, records: Sequence[CaseRecord], exit_status: int) -> None:
        self.root = root
        self.dataset = (
            Dataset.open(root) if any(root.glob("*Tr")) or any(root.glob("*Te")) else None
        )
        self.records = {r.case_id: r for r in records}
        self.exit_status = exit_status

    @property
    def only(self) -> CaseRecord:
        (record,) = self.records.values()
        return record

    def require_done(self, case_id: str) -> None:
        assert self.records[case_id].status == "done", self.records[case_id].message

    def structures(self, case_id: str) -> set[str]:
        assert self.dataset is not None
        labels = self.dataset.case(case_id).labels()
        return set(labels.structures()) if labels else set()

    def require_truth(self, mini: Miniature, case_id: str, wanted: Sequence[str]) -> None:
        """Exactly these structures are annotated, and each is the phantom's."""
        self.require_done(case_id)
        assert self.structures(case_id) == set(wanted)
        assert self.dataset is not None
        labels = self.dataset.case(case_id).labels()
        assert labels is not None or not wanted
        for structure in wanted:
            mask = labels.mask(structure) if labels else None
            assert mask is not None
            different = int(np.count_nonzero(mask != mini.truth(structure)))
            assert different == 0, f"{structure}: {different} voxels differ"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Imported]:
    """Import a dataset in this process."""

    def imported(name: str, *folders: Path, out: Path | None = None, **settings: Any) -> Imported:
        root = out or tmp_path / "DATASET"
        summary = import_dataset(name, folders, root, ImportSettings(workers=0, **settings))
        return Imported(root, summary.run.records, summary.exit_status)

    return imported
