"""Made-up identifiers, planted in DICOM headers so that their removal can be tested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.uid import generate_uid

from pantskit.phantom.scans import Scan

_FAMILY = ("Quellmann", "Tarvossen", "Obrizky", "Halloway", "Minterholt", "Dragomiresc", "Fyrwald")
_GIVEN = {
    "F": ("Ludmilla", "Henrike", "Oksana", "Rosalind"),
    "M": ("Thaddeus", "Casimir", "Ignatz", "Leopold"),
}
_DOCTORS = ("Vandergraaf", "Wisniewolski", "Achterbergh", "Montclairvaux")
_CLOCK = ((7, 19), (10, 60), (10, 60))
_STREETS = ("Kastanienallee", "Harbour View Road", "Old Mill Lane", "Lindenstrasse")


@dataclass(frozen=True)
class Identity:
    """What a hospital's headers say of one scan; every value is invented.

    Attributes:
        folder: the patient's folder at this site.
        values: DICOM keyword (or a word for a place without one) to the planted text.
        study_uid, series_uid, frame_uid: of the CT series.
        series_number: differs between the scans of one patient.
        labels_key: name of the folder with this scan's masks.
    """

    folder: str
    values: dict[str, str]
    study_uid: str
    series_uid: str
    frame_uid: str
    series_number: int
    labels_key: str

    @property
    def patient_id(self) -> str:
        """The hospital's number of the patient."""
        return self.values["PatientID"]

    def uid(self, *parts: object) -> str:
        """A UID of something in this series."""
        return stable_uid(self.series_uid, *parts)


def stable_uid(*parts: object) -> str:
    """A UID that is always the same for the same parts."""
    return str(generate_uid(entropy_srcs=[str(part) for part in parts]))


def invent(scan: Scan) -> Identity:
    """The identity of a scan's patient and study; two scans of one patient share the patient's."""
    person = np.random.default_rng((*scan.patient.seed, 3))
    family, given = str(person.choice(_FAMILY)), str(person.choice(_GIVEN[scan.patient.sex]))
    number = f"{scan.site.name[:2].upper()}{int(person.integers(10**6, 10**7))}"
    birth_year = scan.study_year - (scan.patient.age_years + scan.visit)
    birth = f"{birth_year}{_month_day(person)}"
    street = f"{person.choice(_STREETS)} {int(person.integers(101, 999))}"
    phone = f"+99-{int(person.integers(10**6, 10**7))}"
    study = np.random.default_rng((*scan.seed, 4))
    date = f"{scan.study_year}{_month_day(study)}"
    clock = "".join(f"{int(study.integers(low, high)):02d}" for low, high in _CLOCK)
    series_number = 3 + 2 * scan.visit
    doctor = str(study.choice(_DOCTORS))
    uid = (scan.seed, scan.site.name)
    values = {
        "PatientName": f"{family}^{given}",
        "PatientID": number,
        "PatientBirthDate": birth,
        "OtherPatientIDs": f"SSN-{int(person.integers(10**8, 10**9))}",
        "PatientAddress": street,
        "PatientTelephoneNumbers": phone,
        "AccessionNumber": f"ACC{int(study.integers(10**7, 10**8))}",
        "StudyID": f"ST{int(study.integers(10**5, 10**6))}",
        "StudyDate": date,
        "StudyTime": clock,
        "InstitutionName": scan.site.institution,
        "InstitutionAddress": f"{scan.site.institution}, Ward {int(study.integers(100, 999))}B",
        "ReferringPhysicianName": f"{doctor}^Referring",
        "PerformingPhysicianName": f"{study.choice(_DOCTORS)!s}^Performing",
        "OperatorsName": f"Operator{int(study.integers(1000, 9999))}^Tech",
        "StationName": f"{scan.site.name[:5].upper()}CT{int(study.integers(100, 999))}",
        "DeviceSerialNumber": f"SN{int(study.integers(10**6, 10**7))}",
        "PatientComments": f"{given} {family}, call {phone} before discharge",
        "ImageComments": f"reported by Dr {doctor}",
        "SourceApplicationEntityTitle": f"AE_{scan.site.name[:8].upper()}",
        "PrivateElement": f"{family}/{number}/{birth}",
        "Preamble": f"exported for {given} {family}",
    }
    key = f"{number}_{series_number}" if scan.one_of_several else number
    folders = {
        "northfield": f"{family.upper()}_{given.upper()}_{number}",
        "suedstadt": number,
        "harbour": f"{given[0]}.{family} ({birth})",
    }
    return Identity(
        folder=folders.get(scan.site.name, f"PAT_{number}"),
        values=values,
        study_uid=stable_uid(*uid, "study"),
        series_uid=stable_uid(*uid, "series"),
        frame_uid=stable_uid(*uid, "frame"),
        series_number=series_number,
        labels_key=key,
    )


def _month_day(rng: np.random.Generator) -> str:
    return f"{int(rng.integers(1, 13)):02d}{int(rng.integers(1, 29)):02d}"
