"""Steps that mend a label map after the network, each by one rule and none by default.

A step is a pure function of a label map and its grid; it says how many voxels it changed, of
what, into what, and why it left alone what it doubts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pantskit.core.errors import ConfigError
from pantskit.core.volume import Volume
from pantskit.predict.changes import Labels, Report
from pantskit.predict.islands import remove_islands
from pantskit.predict.sides import repair_sides
from pantskit.predict.strays import remove_stray_lesions

Step = Callable[[Labels, Any], Report]

# In the order in which they are applied, whatever order they are named in: sides are told from
# whole organs, and a lesion's distance from a gland without islands.
STEPS: Mapping[str, Step] = {
    "islands": remove_islands,
    "sides": repair_sides,
    "stray-lesions": remove_stray_lesions,
}


@dataclass(frozen=True)
class Mended:
    """A label map after its steps.

    Attributes:
        labels: on the same grid.
        record: for prediction.json: a step's name to its changes and doubts.
    """

    labels: Volume
    record: dict[str, Any]


def parse_steps(text: str) -> tuple[str, ...]:
    """The steps of `--postprocess`: names with commas, `all` or `none`.

    Raises:
        ConfigError: If a name is none of them.
    """
    if text in ("", "none"):
        return ()
    names = tuple(STEPS) if text == "all" else tuple(n.strip() for n in text.split(","))
    unknown = [n for n in names if n not in STEPS]
    if unknown:
        raise ConfigError(
            f"postprocessing {unknown[0]!r} is unknown; steps are {', '.join(STEPS)}, or all"
        )
    return tuple(step for step in STEPS if step in names)


def postprocess(labels: Volume, steps: Sequence[str]) -> Mended:
    """Apply steps to a label map.

    Args:
        labels: ids of the label space `pants`; not changed.
        steps: names out of `STEPS`.
    """
    array, record = labels.array, {}
    for name in steps:
        report = STEPS[name](array, labels.geometry)
        array = report.labels
        record[name] = {
            "changed": [asdict(change) for change in report.changes],
            "doubts": list(report.doubts),
        }
    return Mended(labels if array is labels.array else labels.with_array(array), record)
