"""What a training starts from, kept beside its model: a rerun is compared with it.

MODEL/recipe.toml    every setting
MODEL/cases.json     seed, label scheme, and each case with its side and the hashes of its files
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

from pantskit.core.copies import read_copies
from pantskit.core.dataset import Case, Dataset
from pantskit.core.errors import DatasetError, PantskitError
from pantskit.core.files import content_hash, held, is_abandoned, jsonable, write_json
from pantskit.core.selection import require_cases
from pantskit.networks.folder import FOLD
from pantskit.train.folds import CaseFacts, case_facts, counts_of, draw_folds, draw_subset
from pantskit.train.labels import Channels
from pantskit.train.recipe import Recipe

CASES_FILE = "cases.json"
RECIPE_FILE = "recipe.toml"
WORK = ".work"  # in the model's folder, removed when the training is complete
_LOCK = "running"
_NAMED = 5  # differences in a message


@dataclass(frozen=True)
class Start:
    """What the weights depend on, but the machine and the versions of libraries.

    Attributes:
        recipe: settings.
        seed: of all random numbers.
        split: of the dataset.
        scheme: of labels, by name.
        unit: what folds are drawn over: `"patient"`, or `"scan"` where no patient is known.
        chosen_of: cases that a subset was drawn from; 0 without a subset.
        cases: case_id to patient, tumor, phase, site, fold (None without folds).
        hashes: case_id to hashes of its `image` and, as one, of its `labels`.
        meaning: structures of the channels, their kind, what each case annotates.
        pretrained: hash of the weights to begin with.
    """

    recipe: Recipe
    seed: int
    split: str
    scheme: str
    unit: str
    chosen_of: int
    cases: Mapping[str, Mapping[str, Any]]
    hashes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    meaning: Any = None
    pretrained: str = ""

    @property
    def mark(self) -> str:
        """Hash of it all but the recipe's name, 32 hex digits."""
        values = asdict(self)
        del values["recipe"]["name"]
        text = json.dumps(jsonable(values), sort_keys=True)
        return blake3(text.encode()).hexdigest(length=16)

    def write(self, folder: Path) -> None:
        """Write recipe.toml and cases.json."""
        values = {k: v for k, v in asdict(self).items() if k not in ("recipe", "hashes", "cases")}
        facts = [CaseFacts(c, *(v[k] for k in _FACTS)) for c, v in self.cases.items()]
        counts = {"cases": len(facts), **counts_of(facts)}
        cases = {c: {**v, **self.hashes.get(c, {})} for c, v in self.cases.items()}
        self.recipe.write(folder / RECIPE_FILE)
        write_json(folder / CASES_FILE, {**values, "counts": counts, "cases": cases})

    @classmethod
    def read(cls, folder: Path) -> Start | None:
        """What a folder's training started from; None where there is none.

        Raises:
            DatasetError: If the files are there and cannot be used.
        """
        path = folder / CASES_FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text("utf-8"))
            del values["counts"]
            hashes = {
                c: {k: v.pop(k) for k in ("image", "labels") if k in v}
                for c, v in values["cases"].items()
            }
            # The file's name is not the recipe's.
            text = (folder / RECIPE_FILE).read_text("utf-8")
            return cls(recipe=Recipe.parse(text, RECIPE_FILE), hashes=hashes, **values)
        except (OSError, ValueError, KeyError, TypeError, PantskitError) as error:
            raise DatasetError(f"{path}: cannot be used: {error}; give a new folder") from None

    def differences(self, now: Start, *, with_data: bool) -> list[str]:
        """What another start has otherwise, for people.

        Args:
            now: the other.
            with_data: compare what files hold, too; else settings and names of cases.
        """
        found = [
            f"{name} was {before}, is {after}"
            for name in ("seed", "split", "scheme", "chosen_of")
            if (before := getattr(self, name)) != (after := getattr(now, name))
        ]
        old, new = jsonable(self.recipe.values()), jsonable(now.recipe.values())
        found += [f"{k} was {old[k]}, is {new[k]}" for k in new if k != "name" and old[k] != new[k]]
        found += [f"case {c} is new" for c in now.cases if c not in self.cases]
        found += [f"case {c} is gone" for c in self.cases if c not in now.cases]
        both = [c for c in now.cases if c in self.cases]
        found += [
            f"{k} of case {c} was {self.cases[c].get(k)}, is {now.cases[c].get(k)}"
            for c in both
            for k in now.cases[c]
            if self.cases[c].get(k) != now.cases[c][k]
        ]
        if with_data:
            found += [
                f"the {k} of case {c} changed"
                for c in both
                for k, value in now.hashes[c].items()
                if self.hashes[c].get(k) != value
            ]
            if self.pretrained != now.pretrained:
                found.append("the pretrained weights changed")
            if not found and now.meaning is not None and jsonable(now.meaning) != self.meaning:
                found.append("what the cases annotate changed")
        return found


_FACTS = ("patient", "tumor", "phase", "site")


def choose_cases(
    dataset: Dataset,
    split: str,
    wanted: Sequence[str] | None,
    subset: int | None,
    seed: int,
) -> tuple[list[Case], int]:
    """The cases of a training; one whose patient is tested elsewhere is none of them.

    Returns:
        The cases, and how many a subset was drawn from; 0 without a subset.

    Raises:
        DatasetError, ConfigError: If there are none, a wanted one is missing or held out, or the
            subset is larger than the dataset.
    """
    held_out = read_copies(dataset.root).held_out
    found = dataset.cases(split)
    where = f"{dataset.root}, split {split}"
    if wanted is not None:
        for case_id in (c for c in wanted if c in held_out):
            raise DatasetError(
                f"{where}: {case_id} shows the patient of the test case {held_out[case_id]} "
                "(same_patients.json); leave it out"
            )
        require_cases(wanted, (c.case_id for c in found), where=where)
        found = [c for c in found if c.case_id in set(wanted)]
    found = [c for c in found if c.case_id not in held_out]
    if not found:
        raise DatasetError(f"{where}: no cases to train on")
    if subset is None:
        return found, 0
    drawn = set(draw_subset(case_facts(dataset, found), subset, seed))
    return [c for c in found if c.case_id in drawn], len(found)


def sides_of(
    dataset: Dataset, cases: Sequence[Case], recipe: Recipe, seed: int
) -> tuple[dict[str, dict[str, Any]], str]:
    """Facts and fold of each case, and what folds are drawn over."""
    facts = case_facts(dataset, cases)
    known = any(f.patient != f.case_id for f in facts)
    folds: dict[str, int] = {}
    if recipe.validation == "fold" and len({f.patient for f in facts}) >= recipe.folds:
        folds = draw_folds(facts, recipe.folds, seed)
    sides = {
        f.case_id: {**{k: getattr(f, k) for k in _FACTS}, "fold": folds.get(f.case_id)}
        for f in facts
    }
    return sides, "patient" if known else "scan"


def choose_sides(
    start: Start, voxels: Mapping[str, Mapping[str, int]]
) -> tuple[list[str], list[str], list[str]]:
    """Which usable cases train and which are kept out for the learning curve.

    Args:
        start: the recipe, and each case's fold.
        voxels: case_id of each usable case to its voxels of each structure.

    Returns:
        Cases to train on, cases kept out (all cases twice, where none are), lines for the user.
    """
    recipe, usable = start.recipe, sorted(voxels)
    kept_out = [c for c in usable if start.cases[c]["fold"] == recipe.fold]
    train = [c for c in usable if c not in set(kept_out)]
    if recipe.validation == "none":
        return usable, usable, []
    if not train or not kept_out:
        line = (
            f"too few patients for {recipe.folds} folds: none are kept out, and the learning "
            "curve's Dice is that of training cases"
        )
        return usable, usable, [line]
    unit = "patient" if start.unit == "patient" else "scan, as no patient is known"
    lines = [
        f"fold {recipe.fold} of {recipe.folds}, by {unit}: {len(train)} cases to train on, "
        f"{len(kept_out)} kept out"
    ]
    for where, cases in (("to train on", train), ("kept out", kept_out)):
        there = {s for c in usable for s, n in voxels[c].items() if n}
        missing = sorted(there - {s for c in cases for s, n in voxels[c].items() if n})
        if missing:
            lines.append(f"in none of the cases {where}: {', '.join(missing)}")
    return train, kept_out, lines


def hash_cases(cases: Sequence[Case]) -> dict[str, dict[str, str]]:
    """Hashes of each case's image and, as one, of its label files."""

    def hashed(path: Path) -> str:
        return content_hash(path) if path.is_file() else "missing"

    def of_case(case: Case) -> dict[str, str]:
        files: list[Path] = []
        with suppress(PantskitError):  # the look at the case says why
            labels = case.labels()
            files = sorted(labels.paths) if labels else []
        together = blake3("".join(f"{p.name} {hashed(p)}\n" for p in files).encode())
        return {"image": hashed(case.image_path), "labels": together.hexdigest(length=16)}

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip((c.case_id for c in cases), pool.map(of_case, cases), strict=True))


def meaning_of(channels: Channels) -> Any:
    """What the network's channels mean, in plain data."""
    return {
        "structures": channels.structures,
        "regions": channels.regions,
        "annotated": {c: s for c, s in channels.annotated.items() if s != channels.structures},
    }


def require_own_folder(out: Path) -> Start | None:
    """What began in a model's folder; None in a new one.

    Raises:
        DatasetError: If the folder holds something else.
    """
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out}: is a file; give a folder for the model")
    before = Start.read(out)
    if before is None and out.is_dir() and {p.name for p in out.iterdir()} - {WORK}:
        raise DatasetError(f"{out}: is not empty and no training of ours; give a new folder")
    return before


def has_weights(out: Path) -> bool:
    """Whether a model's folder holds weights, which another training must not replace."""
    return any((out / FOLD).glob("checkpoint_*.pth"))


def require_same(out: Path, before: Start, now: Start, *, with_data: bool) -> None:
    """Refuse to go on with other cases or settings.

    Raises:
        DatasetError: It names what differs.
    """
    found = before.differences(now, with_data=with_data)
    if found:
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise DatasetError(
            f"{out}: holds a training of other cases or settings ({'; '.join(found[:_NAMED])}"
            f"{more}); give a new folder"
        )


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keep a second training out of a model's folder.

    Raises:
        DatasetError: If there is one at work.
    """
    mark = out / WORK / _LOCK
    if mark.exists() and not is_abandoned(mark):
        raise DatasetError(f"{out}: another process is training into this folder")
    mark.parent.mkdir(parents=True, exist_ok=True)
    with held(mark):
        yield
