"""Findings of several structures in one line."""

from __future__ import annotations

from dataclasses import replace

from pantskit.check.alike import in_lines
from pantskit.check.findings import Finding, Severity

LIVER = Finding("case_1", "own", Severity.WARNING, "no mask of liver here", "liver", 2.0)


def of(structure, message="no mask of {} here", **other):
    return replace(LIVER, structure=structure, message=message.format(structure), **other)


def test_what_is_said_of_several_structures_in_the_same_words_is_one_line():
    findings = [LIVER, of("spleen"), of("aorta")]
    (line,) = in_lines(findings)
    assert line.findings == tuple(findings)
    assert line.structures == ("liver", "spleen", "aorta")
    assert line.message() == "no mask of liver, spleen and aorta here"
    assert line.message(named=3) == "no mask of liver, spleen and aorta here"
    assert line.message(named=1) == "no mask of liver and 2 more here"


def test_what_differs_in_anything_else_has_a_line_of_its_own():
    others = [
        of("spleen", case_id="case_2"),
        of("spleen", rule="other"),
        of("spleen", severity=Severity.ERROR),
        of("spleen", value=3.0),
        of("spleen", message="no file of {} here"),
        of("spleen", accepted="seen"),
        of("spleen", voxel="1 2 3"),
    ]
    for other in others:
        assert [line.findings for line in in_lines([LIVER, other])] == [(LIVER,), (other,)]


def test_findings_that_say_where_to_look_stay_apart_as_each_has_a_picture():
    there = [replace(LIVER, voxel="1 2 3"), of("spleen", voxel="1 2 3")]
    assert len(in_lines(there)) == 2


def test_the_same_finding_twice_is_two_lines_where_it_names_no_structure():
    plain = replace(LIVER, structure="", message="odd")
    assert [line.message() for line in in_lines([plain, plain])] == ["odd", "odd"]
    assert in_lines([plain])[0].structures == ()


def test_a_name_in_the_name_of_a_file_is_not_taken_for_the_structure():
    damaged = [of(s, "case/{}.nii.gz: damaged") for s in ("liver", "spleen")]
    assert [line.message() for line in in_lines(damaged)] == [f.message for f in damaged]
    (line,) = in_lines([of("veins"), of("liver")])
    assert line.message() == "no mask of veins and liver here"
    lesions = [of(s, "{} beside pancreatic_lesion") for s in ("pancreas", "liver")]
    assert in_lines(lesions)[0].message() == "pancreas and liver beside pancreatic_lesion"


def test_the_name_of_the_case_is_not_said_twice():
    named = replace(LIVER, message="case_1: no mask of liver")
    assert in_lines([named])[0].message() == "no mask of liver"
