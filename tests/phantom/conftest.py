"""Phantom cases that several tests look at: made once."""

from __future__ import annotations

import pytest

from pantskit.phantom.case import PhantomCase, make_case
from pantskit.phantom.scans import CohortPlan

PLAN = CohortPlan(cases=6, seed=5, tumor_rate=1.0, sites=3)


@pytest.fixture(scope="session")
def tumour_cases() -> list[PhantomCase]:
    """Six small cases with a tumour each, two from each of three sites."""
    return [make_case(PLAN, number) for number in range(6)]
