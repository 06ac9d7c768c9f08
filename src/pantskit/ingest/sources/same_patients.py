"""Pairs of scans as patients, written beside the datasets so that sides keep them apart.

A patient's scans are those of one patient ID and those that were found to be alike, in all datasets
that were compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pantskit.core.copies import Copies, write_copies
from pantskit.core.dataset import Dataset

Member = tuple[str, str]  # dataset, case ID


def write_same_patients(
    datasets: Sequence[Dataset], pairs: Iterable[tuple[str, str]]
) -> dict[str, Copies]:
    """Write into each dataset which of its cases are one patient, and which are tested elsewhere.

    Args:
        datasets: what was compared; `same_patients.json` in each is written anew.
        pairs: `<dataset>/<case_id>` of each two scans that are alike.

    Returns:
        Name of each dataset to what was written.
    """
    named = {dataset.root.absolute().name: dataset for dataset in datasets}
    for dataset in datasets:
        write_copies(dataset.root, Copies())
    fresh = {name: Dataset.open(dataset.root) for name, dataset in named.items()}
    splits = {(name, c.case_id): c.split for name, one in fresh.items() for c in one.cases()}
    groups = _groups(splits, fresh, [(_member(a), _member(b)) for a, b in pairs])
    patients: dict[str, dict[str, str]] = defaultdict(dict)
    held_out: dict[str, dict[str, str]] = defaultdict(dict)
    for group in groups:
        first = group[0]
        patient = f"{first[0]}:{_patient(fresh, first)}"
        tested = [member for member in group if splits[member] == "test"]
        for member in group:
            patients[member[0]][member[1]] = patient
            if tested and splits[member] != "test":
                held_out[member[0]][member[1]] = "/".join(tested[0])
    written = {name: Copies(patients[name], held_out[name]) for name in named}
    for name, copies in written.items():
        write_copies(fresh[name].root, copies)
    return written


def _member(text: str) -> Member:
    name, _, case_id = text.partition("/")
    return name, case_id


def _patient(datasets: dict[str, Dataset], member: Member) -> str:
    name, case_id = member
    return str(datasets[name].metadata.get(case_id, {}).get("patient_id") or case_id)


def _groups(
    members: Iterable[Member],
    datasets: dict[str, Dataset],
    pairs: Sequence[tuple[Member, Member]],
) -> list[list[Member]]:
    """Scans of one patient, by pairs and patient IDs; those that no pair touches are left out."""
    leader: dict[object, object] = {}

    def lead(one: object) -> object:
        while leader.setdefault(one, one) != one:
            one = leader[one]
        return one

    everyone = sorted(members)
    for member in everyone:
        leader[lead(member)] = lead((member[0], "patient", _patient(datasets, member)))
    for a, b in pairs:
        leader[lead(a)] = lead(b)
    touched = {lead(member) for pair in pairs for member in pair}
    groups: dict[object, list[Member]] = defaultdict(list)
    for member in everyone:
        if lead(member) in touched:
            groups[lead(member)].append(member)
    return [groups[key] for key in sorted(groups, key=lambda key: groups[key])]
