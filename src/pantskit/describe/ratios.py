"""Ratios between datasets, each with the two numbers it is made of and what the paper says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pantskit.core.published import PublishedDataset, Table3, TableRow
from pantskit.describe.counting import DatasetCounts

PANTS = "pants"


@dataclass(frozen=True)
class Ratio:
    """One number divided by another.

    Attributes:
        name: what is compared: scale, diversity, tumours, share, sums; of counted datasets `own`.
        definition: in words, what is divided by what.
        numerator, denominator: the two numbers.
        percent: it is a share, printed in percent.
        stated: what the paper says of it; `""` where it says nothing.
    """

    name: str
    definition: str
    numerator: int
    denominator: int
    percent: bool = False
    stated: str = ""

    @property
    def value(self) -> float:
        """The quotient."""
        return self.numerator / self.denominator

    @property
    def text(self) -> str:
        """The quotient as printed: one digit behind the point, two below ten."""
        if self.percent:
            return f"{100 * self.value:.1f} %"
        return f"{self.value:.2f}" if self.value < 10 else f"{self.value:,.1f}"

    @property
    def formula(self) -> str:
        """The two numbers."""
        return f"{self.numerator:,} / {self.denominator:,}"


def published_ratios(table: Table3, known: Mapping[str, PublishedDataset]) -> tuple[Ratio, ...]:
    """Ratios of Table 3's own numbers, beside those that the paper states.

    None of the stated ratios is changed to fit; where no quotient of the table gives one, that is
    said.
    """
    others = [row for row in table.rows if row.dataset != PANTS]
    training, test = table.rows_of(PANTS)
    return (
        *_scale(table, training, others, known),
        *_diversity(table, others),
        *_tumours(table, training, test, others),
        *_shares([*others, training, test]),
        *_sums(training, others),
    )


def own_ratios(table: Table3, counts: DatasetCounts) -> tuple[Ratio, ...]:
    """A counted dataset beside the training set of PanTS, and its share of tumours."""
    training = table.rows_of(PANTS)[0]
    found = []
    if counts.scans:
        found.append(
            Ratio(
                "own",
                f"scans of PanTS' training set / scans of {counts.name}",
                training.scans,
                counts.scans,
            )
        )
    if counts.tumours.positive is not None:
        found.append(
            Ratio(
                "own",
                f"cases of {counts.name} with a pancreatic tumour / cases of which it is known",
                counts.tumours.positive,
                counts.tumours.known,
                percent=True,
            )
        )
    return tuple(found)


def unmatched_claims(table: Table3) -> tuple[str, ...]:
    """The paper's ratios that no ratio of PanTS to the largest dataset, or to all, gives.

    Tried are the whole of PanTS and each of its sets over the largest other dataset, the largest
    with pancreatic tumours, and the sum of all others; a ratio fits when it rounds to the claim.
    """
    kinds: dict[str, tuple[str, ...]] = {
        "scale": ("scans",),
        "diversity": ("institutions", "countries"),
        "tumours": ("pancreatic_tumours",),
    }
    return tuple(
        f"The paper states {claim.words} ({claim.source}): no ratio of PanTS or one of its sets to "
        f"the largest dataset of Table 3, the largest with tumours, or the sum of all gives "
        f"{claim.value:g}."
        for claim in table.claims
        if not any(
            abs(quotient - claim.value) <= 0.05
            for what in kinds[claim.name]
            for quotient in _quotients(table, what)
        )
    )


def _quotients(table: Table3, what: str) -> list[float]:
    others = [row for row in table.rows if row.dataset != PANTS]
    sets = [getattr(row, what) for row in table.rows_of(PANTS)]
    whole = getattr(table.whole, what, sum(sets))
    below = [
        max(getattr(row, what) for row in others),
        max(getattr(row, what) for row in others if row.pancreatic_tumours),
        sum(getattr(row, what) for row in others),
    ]
    return [above / number for above in (whole, *sets) for number in below]


def _stated(table: Table3, name: str) -> str:
    claim = next(c for c in table.claims if c.name == name)
    return f"{claim.words} ({claim.source})"


def _scale(
    table: Table3,
    training: TableRow,
    others: list[TableRow],
    known: Mapping[str, PublishedDataset],
) -> list[Ratio]:
    with_tumours = max((r for r in others if r.pancreatic_tumours), key=lambda r: r.scans)
    largest = max(others, key=lambda r: r.scans)
    stated, all_scans = _stated(table, "scale"), table.whole.scans
    found = [
        Ratio(
            "scale",
            f"scans of {whose} / scans of {row.label}, the largest other dataset of Table 3 {kind}",
            scans,
            row.scans,
            stated=stated,
        )
        for row, kind in ((with_tumours, "with pancreatic tumours"), (largest, "of any kind"))
        for whose, scans in (("all of PanTS", all_scans), ("PanTS' training set", training.scans))
    ]
    patients = known[largest.dataset].figure("patients")
    if patients and patients.value:
        found.append(
            Ratio(
                "scale",
                f"scans of all of PanTS / patients of {largest.label}, which Table 3 does not have "
                f"({patients.source}): the stated ratio may be this one, though nobody drew "
                "pancreatic tumours there",
                all_scans,
                patients.value,
                stated=stated,
            )
        )
    return found


def _diversity(table: Table3, others: list[TableRow]) -> list[Ratio]:
    most, widest = (
        max(others, key=lambda r: r.institutions),
        max(others, key=lambda r: r.countries),
    )
    stated = _stated(table, "diversity")
    return [
        Ratio(
            "diversity",
            f"institutions of all of PanTS / institutions of {most.label}, the most of Table 3",
            table.whole.institutions,
            most.institutions,
            stated=stated,
        ),
        Ratio(
            "diversity",
            f"countries of all of PanTS / countries of {widest.label}, the most of Table 3",
            table.whole.countries,
            widest.countries,
            stated=stated,
        ),
    ]


def _tumours(
    table: Table3, training: TableRow, test: TableRow, others: list[TableRow]
) -> list[Ratio]:
    most = max(others, key=lambda r: r.pancreatic_tumours)
    stated = _stated(table, "tumours")
    return [
        Ratio(
            "tumours",
            f"scans with tumours of {whose} / those of {most.label}, the most of Table 3",
            number,
            most.pancreatic_tumours,
            stated=stated,
        )
        for whose, number in (
            ("PanTS, both sets", training.pancreatic_tumours + test.pancreatic_tumours),
            ("PanTS' training set", training.pancreatic_tumours),
        )
    ]


def _shares(rows: list[TableRow]) -> list[Ratio]:
    return [
        Ratio(
            "share",
            f"scans with tumours / scans: {row.full_label}",
            row.pancreatic_tumours,
            row.scans,
            percent=True,
        )
        for row in rows
        if row.pancreatic_tumours
    ]


def _sums(training: TableRow, others: list[TableRow]) -> list[Ratio]:
    """The training set beside the sum of the datasets that it is said to come from."""
    return [
        Ratio(
            "sums",
            f"{title} of PanTS' training set / sum over the {len(others)} datasets of Table 3, "
            "scans that are in several of them counted each time",
            getattr(training, what),
            sum(getattr(row, what) for row in others),
        )
        for what, title in (
            ("scans", "scans"),
            ("pancreatic_tumours", "scans with tumours"),
            ("institutions", "institutions"),
        )
    ]
