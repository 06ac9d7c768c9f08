"""What a kind of fault is, and the list of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planted_case import Planting


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: of the kind.
        standard: what it violates, in our words: the annotation standard where it says so.
        severity: the least that a finding should have; info: a remark is all that is due.
        structures: whose mask or file is planted in; `EVERYTHING`: the fault is in all of them.
        levels: from blatant to subtle, as the planter takes them.
        plant: changes the copy in memory; or its files, where `on_disk`.
        words: one of these in a finding's message names what was planted in, too.
        on_disk: called after the copy was written.
        below: level to the reason why it is below what can be told from the files: within the
            variation of anatomy, under a voxel, or nothing in the files contradicts it.
        company: clean cases lie beside the copy.
    """

    name: str
    standard: str
    severity: str
    structures: tuple[str, ...]
    levels: tuple[Any, ...]
    plant: Callable[[Planting, Any], None]
    words: tuple[str, ...] = ()
    on_disk: bool = False
    below: Mapping[Any, str] = field(default_factory=dict)
    company: bool = False

    def told(self, level: str) -> bool:
        """Whether a level, as it is printed, can be told."""
        return level not in {str(each) for each in self.below}

    def into(self, case: Planting, level: Any) -> None:
        """Plant and write.

        Raises:
            DoesNotApplyError: If the case has not what it needs.
        """
        if self.on_disk:
            case.write()
            self.plant(case, level)
        else:
            self.plant(case, level)
            case.write()


KINDS: list[Kind] = []


def kind(
    name: str,
    standard: str,
    *,
    severity: str = "warning",
    structures: tuple[str, ...],
    levels: tuple[Any, ...],
    words: tuple[str, ...] = (),
    on_disk: bool = False,
    below: Mapping[Any, str] | None = None,
    company: bool = False,
) -> Callable[[Callable[[Planting, Any], None]], Callable[[Planting, Any], None]]:
    """Make a planter a kind of fault; see `Kind` for the arguments."""

    def made(plant: Callable[[Planting, Any], None]) -> Callable[[Planting, Any], None]:
        kind = Kind(
            name,
            standard,
            severity,
            structures,
            levels,
            plant,
            words,
            on_disk,
            below or {},
            company,
        )
        KINDS.append(kind)
        return plant

    return made
