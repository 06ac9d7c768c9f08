"""Which series of a study are taken, on studies as scanners make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pantskit.core.errors import ConfigError
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.ingest.discovery.choice import choose
from pantskit.ingest.discovery.discover import discover
from pantskit.ingest.discovery.kernels import kernel_class
from pantskit.ingest.discovery.series import Series
from pantskit.ingest.settings import IngestSettings
from pantskit.ingest.survey import survey

CORONAL = {"row": (1.0, 0.0, 0.0), "column": (0.0, 0.0, -1.0)}


class Study:
    """One study in the making: series of 20 mm along the patient, all of one acquisition."""

    def __init__(self, series: Any, folder: Path) -> None:
        self._made, self.folder, self._names = series, folder, {}

    def add(
        self,
        name: str,
        *,
        thickness: float = 2.0,
        kernel: str = "B30f",
        time: str = "101500",
        number: int = 1,
        slices: int | None = None,
        start: float = 50.0,
        geometry: dict[str, Any] | None = None,
        **attributes: Any,
    ) -> None:
        count = slices or round(20 / thickness) + 1
        shared = {
            "StudyInstanceUID": "1.2.826.0.1",
            "FrameOfReferenceUID": "1.2.826.0.2",
            "AcquisitionDate": "20140902",
            "AcquisitionTime": time,
            "AcquisitionNumber": number,
            "SliceThickness": thickness,
            "ConvolutionKernel": kernel,
        }
        made = self._made(
            stored=np.full((count, 6, 8), 1024, np.uint16),
            step=thickness,
            origin=(-100.0, -120.0, start),
            attributes={k: v for k, v in (shared | attributes).items() if v is not None},
            **(geometry or {}),
        )
        made.write(self.folder / name)
        self._names[made.uid] = name

    def skipped(self, rule: str = "best", **settings: Any) -> dict[str, str]:
        """Name of every series to the reason why it is not taken."""
        chosen = choose(discover([self.folder]).series, rule, **settings)
        return {self._names[s.first.series_uid]: s.skip for s in chosen}

    def taken(self, rule: str = "best", **settings: Any) -> set[str]:
        return {name for name, skip in self.skipped(rule, **settings).items() if not skip}


@pytest.fixture
def study(series, tmp_path) -> Study:
    return Study(series, tmp_path / "in")


def test_of_one_acquisition_the_thin_soft_axial_series_is_taken(study):
    study.add("thick soft", thickness=5)
    study.add("thin soft", thickness=1)
    study.add("thinner sharp", thickness=0.5, kernel="B70f")
    study.add("coronal", thickness=1, geometry=CORONAL, slices=5, start=60)
    skipped = study.skipped()
    assert [name for name, skip in skipped.items() if not skip] == ["thin soft"]
    words = "another reconstruction of this acquisition is taken (axial, 1 mm, soft kernel)"
    assert skipped["thick soft"] == words


def test_phases_are_different_acquisitions_and_all_taken(study):
    study.add("arterial", thickness=1, time="101500", number=2)
    study.add("portal", thickness=2, time="101545", number=3)
    assert study.taken() == {"arterial", "portal"}


@pytest.mark.parametrize(
    "lost",
    [
        {"AcquisitionTime": None},  # no time proves that they are one
        {"AcquisitionTime": "000000"},  # an export that blanks times
        {"FrameOfReferenceUID": None},
        {"FrameOfReferenceUID": "1.2.826.0.3"},
        {"StudyInstanceUID": "1.2.826.0.9"},
        {"AcquisitionNumber": 7},
        {"PatientID": "another"},
    ],
)
def test_what_cannot_be_proved_to_be_one_acquisition_is_all_taken(study, lost):
    study.add("thin", thickness=1)
    study.add("thick", thickness=5, **lost)
    assert study.taken() == {"thin", "thick"}


def test_phases_whose_times_an_export_made_equal_are_told_by_their_words(study):
    study.add("a", thickness=1, SeriesDescription="ART 35s")
    study.add("b", thickness=5, SeriesDescription="Abdomen portalvenös")
    assert study.taken() == {"a", "b"}


def test_series_made_in_the_same_way_are_no_reconstructions_of_one_acquisition(study):
    study.add("a")
    study.add("b")
    assert study.taken() == {"a", "b"}


def test_series_that_shows_less_takes_no_place(study):
    study.add("thin, half as long", thickness=1, slices=11)
    study.add("thick", thickness=5)
    assert study.taken() == {"thin, half as long", "thick"}


def test_field_that_is_a_tenth_smaller_is_the_same_anatomy_and_half_is_not(study):
    study.add("full", thickness=5, geometry={"pixel_spacing": (0.75, 0.5)})
    study.add("tenth", thickness=2, geometry={"pixel_spacing": (0.675, 0.45)})
    assert study.taken() == {"tenth"}
    study.add("half", thickness=1, geometry={"pixel_spacing": (0.375, 0.25)})
    assert study.taken() == {"tenth", "half"}


def test_derived_images_give_way_to_original_ones_and_photon_energies_to_both(study):
    study.add("original", thickness=5)
    study.add("derived", thickness=1, ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    study.add("70 keV", thickness=0.5, SeriesDescription="MonoE 70keV[HU]")
    assert study.taken() == {"original"}


def test_series_with_missing_slices_takes_no_place_and_keeps_its_own_reason(study):
    study.add("thin", thickness=1)
    sorted((study.folder / "thin").iterdir())[3].unlink()
    study.add("thick", thickness=5)
    assert study.taken() == {"thin", "thick"}  # thin ends as quarantined
    study.add("thinner", thickness=0.5)
    assert study.taken() == {"thinner"}  # which is better than what is broken


def test_one_of_a_study_is_the_best_of_all_its_acquisitions(study):
    study.add("arterial", thickness=1, time="101500")
    study.add("portal", thickness=2, time="101545")
    study.add("another study", thickness=5, StudyInstanceUID="1.2.826.0.9")
    skipped = study.skipped("study")
    assert skipped["arterial"] == skipped["another study"] == ""
    assert skipped["portal"].startswith("another series of this study is taken (axial, 1 mm")


def test_all_takes_every_series_in_hu(study):
    study.add("thin", thickness=1)
    study.add("thick", thickness=5)
    study.add("mpr", thickness=3, ImageType=["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MPR"])
    assert study.taken("all") == {"thin", "thick", "mpr"}
    assert "a reformat (MPR) of another series" in study.skipped("best")["mpr"]


def test_preference_can_be_given(study):
    study.add("thin soft", thickness=1)
    study.add("thick soft", thickness=5)
    study.add("thin sharp", thickness=1, kernel="B70f")
    assert study.taken(prefer=("thick",)) == {"thick soft"}
    assert study.taken(prefer=("sharp", "thin")) == {"thin sharp"}


@pytest.mark.parametrize("rule", ["best", "study"])
def test_series_that_annotations_were_drawn_on_is_taken_in_place_of_the_others(study, rule):
    study.add("thin", thickness=1)
    study.add("thick", thickness=5)
    study.add("mpr", thickness=3, ImageType=["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MPR"])
    drawn_on = {"thick", "mpr"}
    taken = study.taken(rule, annotated=lambda s: s.first.file.folder.name in drawn_on)
    assert taken == drawn_on


def test_annotations_named_after_a_series_make_it_the_one_to_take(study, tmp_path):
    study.add("thin", thickness=1, SeriesNumber=4)
    study.add("thick", thickness=5, SeriesNumber=5)
    mask = Volume(np.ones((8, 6, 5), np.uint8), Geometry((8, 6, 5), np.eye(4)))
    write_volume(tmp_path / "masks" / "QX778812_5" / "pancreas.nii.gz", mask)
    found, _ = survey([study.folder], IngestSettings(labels=tmp_path / "masks"))
    taken = {s.first.description["SeriesNumber"] for s in found.series if not s.skip}
    assert taken == {"5"}


def test_unknown_rules_and_preferences_are_errors(study):
    study.add("one")
    with pytest.raises(ConfigError, match="series 'first' is unknown; it is one of best"):
        study.skipped("first")
    with pytest.raises(ConfigError, match="prefer 'cheap' is unknown"):
        study.skipped(prefer=("thin", "cheap"))


def test_choice_does_not_change_who_a_series_is(study):
    study.add("thin", thickness=1)
    study.add("thick", thickness=5)
    before = discover([study.folder]).series
    after: list[Series] = choose(before)
    assert [s.identity for s in after] == [s.identity for s in before]
    assert [s.skip for s in after] != [s.skip for s in before]


def test_choice_does_not_depend_on_the_order_of_the_series(study):
    for name, thickness in (("a", 1), ("b", 5), ("c", 2)):
        study.add(name, thickness=thickness)
    found = discover([study.folder]).series
    taken = {s.identity for s in choose(found) if not s.skip}
    assert taken == {s.identity for s in choose(found[::-1]) if not s.skip}


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("B30f", "soft"),
        ("B31s", "soft"),
        ("Br40d\\3", "soft"),
        ("I30f\\2", "soft"),
        ("Bf37f", "soft"),
        ("B46f", "unknown"),
        ("B60s", "sharp"),
        ("Bl57d", "sharp"),
        ("U70u", "sharp"),
        ("STANDARD", "soft"),
        ("SOFT", "soft"),
        ("DETAIL", "unknown"),
        ("LUNG", "sharp"),
        ("BONEPLUS", "sharp"),
        ("EDGE", "sharp"),
        ("B", "soft"),
        ("UB", "soft"),
        ("YA", "sharp"),
        ("D", "sharp"),
        ("FC08", "soft"),
        ("FC13-H", "soft"),
        ("FC30", "sharp"),
        ("FC51", "sharp"),
        ("", "unknown"),
        ("something", "unknown"),
    ],
)
def test_kernels_of_the_vendors_are_soft_or_sharp(kernel, expected):
    assert kernel_class(kernel) == expected
