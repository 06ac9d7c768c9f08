"""Files of a comparison: complete, readable again, and safe with any name."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from counted_datasets import write_three_cases
from PIL import Image

from pantskit.core.dataset import Dataset
from pantskit.core.errors import ConfigError, DatasetError
from pantskit.describe import compare_datasets
from pantskit.describe.latex import escaped

FILES = {
    *("comparison.md", "comparison.csv", "comparison.json", "comparison.png", "comparison.pdf"),
    *("figures.csv", "comparison.tex", "comparison_notes.tex", "comparison_document.tex"),
}
ODD_NAME = r"Süd & Nord_100% [#1] | <b>*x* 北京 x^2 ~ {a} \b $\frac{1 'q' `r` \end{tabular}"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files without any dataset of one's own."""
    out = tmp_path_factory.mktemp("compared") / "new" / "folder"
    assert compare_datasets([], out).exit_status == 0
    return out


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files with a dataset whose name has every sign that a format takes for its own."""
    folder = tmp_path_factory.mktemp("odd")
    dataset = write_three_cases(folder / "ours")
    dataset.info["name"] = ODD_NAME
    dataset.write_info()
    compare_datasets([dataset.root], folder / "out", workers=0)
    return folder / "out"


def test_every_form_is_written(published: Path) -> None:
    assert {p.name for p in published.iterdir()} == FILES


def test_csv_has_a_row_a_dataset_and_the_printed_columns(published: Path) -> None:
    with (published / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14 + 5
    assert list(rows[0])[4:8] == ["pancreatic tumors", "number of CTs", "institutions", "countries"]
    assert len(rows[0]) == 4 + 4 + 25 + 1
    panorama = next(row for row in rows if row["name"] == "panorama")
    assert panorama["number of CTs"] == "2238"
    assert panorama["pancreas"] == "✓"
    assert panorama["CBD"] == "×†"
    assert "676 by another source" in panorama["notes"]


def test_figures_have_a_source_each_and_say_how_well_it_is_known(published: Path) -> None:
    with (published / "figures.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["source"] and row["known"] in ("paper", "site", "memory") for row in rows)
    printed = [row for row in rows if row["in_table_3"] == "True"]
    assert len(printed) == 14 * 4
    both = {r["value"] for r in rows if (r["dataset"], r["what"]) == ("rsna_trauma_2023", "scans")}
    assert both == {"4714", "4706"}


def test_json_holds_all_of_it(published: Path) -> None:
    record = json.loads((published / "comparison.json").read_text("utf-8"))
    training = next(row for row in record["rows"] if row["label"] == "training set")
    assert training["pancreatic_tumours"]["value"] == 1076
    assert training["structures"]["prostate"]["text"] == "✓"
    assert {r["text"] for r in record["ratios"]} >= {"16.3", "7.72", "6.30"}
    assert len(record["remarks"]) >= 6
    assert record["counted"] == []


def test_markdown_has_one_table_of_equal_rows_and_every_note_once(published: Path) -> None:
    text = (published / "comparison.md").read_text("utf-8")
    table = text.split("\n\n")[1].splitlines()
    assert {cells(line) for line in table} == {1 + 4 + 25}
    asked = {int(n) for s in re.findall(r"<sup>([\d,]+)</sup>", text) for n in s.split(",")}
    told = [int(n) for n in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]
    assert told == list(range(1, len(told) + 1))
    assert asked == set(told)


def test_markdown_keeps_an_odd_name_in_its_cell(odd: Path) -> None:
    lines = (odd / "comparison.md").read_text("utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith("| Süd") and cells(line) == 30)
    assert r"\| \<b>\*x\* 北京" in row


def cells(line: str) -> int:
    """Cells of a line of a Markdown table; an escaped bar is no border."""
    return len(re.findall(r"(?<!\\)\|", line)) - 1


@pytest.mark.parametrize("name", ["comparison.tex", "comparison_notes.tex"])
def test_latex_is_well_formed_whatever_the_name(odd: Path, name: str) -> None:
    text = (odd / name).read_text("utf-8")
    opened: list[str] = []
    for verb, environment in re.findall(r"(?<!\\)\\(begin|end)\{([\w*]+)\}", text):
        if verb == "begin":
            opened.append(environment)
        else:
            assert opened.pop() == environment
    assert opened == []
    plain = re.sub(r"\\[{}\\$&%#_]", "", text)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert "北" not in text
    body = "\n".join(line for line in plain.splitlines() if not line.startswith("%"))
    assert "%" not in body.replace("{!}{%", "")  # ends its line, so that no space comes in
    assert "#" not in body


def test_latex_rows_have_as_many_cells_as_the_table_has_columns(odd: Path) -> None:
    text = (odd / "comparison.tex").read_text("utf-8")
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lrc]+)\}", text)
    assert columns == "l" + "r" * 4 + "c" * 25
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "&" in line]
    assert len(rows) == 1 + 14 + 5 + 1  # the head, printed, published, counted
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {30}
    assert all(f"\\{rule}" in text for rule in ("toprule", "midrule", "bottomrule"))


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("50% & more_#1", r"50\% \& more\_\#1"),
        (r"a\b", r"a\textbackslash{}b"),
        ("a{b}$c", r"a\{b\}\char36{}c"),
        ("x [1]", "x {[}1{]}"),
        ("Süß, Łódź", "Süß, Łód?"),  # of its kind, some lack an accent in OT1
        ("✓ × † ‡", r"\checkmark{} $\times$ $^\dagger$ $^\ddagger$"),
        ("a\n\tb\x07", "a b?"),
    ],
)
def test_signs_that_latex_takes_for_its_own_are_escaped(text: str, latex: str) -> None:
    assert escaped(text) == latex


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(odd: Path) -> None:
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "comparison_document.tex"]
    done = subprocess.run(command, cwd=odd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (odd / "comparison_document.pdf").stat().st_size > 10_000


def test_picture_is_wide_and_has_the_colours_of_marks_bars_and_contradictions(odd: Path) -> None:
    with Image.open(odd / "comparison.png") as picture:
        width, height = picture.size
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24) or ()}
    assert width > 1.2 * height > 1000
    # Annotated, in part, tumours and contradictions, and text.
    assert {(0x5B, 0x7C, 0x99), (0xB9, 0xCA, 0xD8), (0xB5, 0x44, 0x3C)} <= colors
    assert (odd / "comparison.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_the_same_numbers_give_the_same_files(published: Path, tmp_path: Path) -> None:
    compare_datasets([], tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (published / name).read_bytes(), name


def test_a_dataset_given_twice_is_refused_however_it_is_written(
    three_cases: Dataset, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(three_cases.root)
    out = tmp_path / "out"
    for again in (three_cases.root, three_cases.root / ".." / three_cases.root.name, link):
        with pytest.raises(ConfigError, match="given twice"):
            compare_datasets([three_cases.root, again], out)
    assert not out.exists()


@pytest.mark.usefixtures("without_pictures")
def test_datasets_of_one_name_are_told_apart_by_their_folder(
    three_cases: Dataset, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(three_cases.root, copy)
    rows = compare_datasets([three_cases.root, copy], tmp_path / "out", workers=0).comparison
    labels = [row.label for row in rows.of_kind("counted")]
    assert labels == [f"ours ({three_cases.root})", f"ours ({copy})"]
    assert any("3 case IDs are in both" in note for note in rows.notes)


@pytest.mark.usefixtures("without_pictures")
def test_what_is_no_dataset_is_refused_before_anything_is_written(
    three_cases: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    for wrong, message in (("nowhere", "no such folder"), ("empty", "not a dataset")):
        with pytest.raises(DatasetError, match=message):
            compare_datasets([three_cases.root, tmp_path / wrong], out)
    (three_cases.root / "dataset.json").write_text('{"name": ')
    with pytest.raises(DatasetError, match=r"dataset\.json: not JSON"):
        compare_datasets([three_cases.root], out)
    assert not out.exists()


@pytest.mark.usefixtures("without_pictures")
def test_a_name_that_is_no_text_gives_way_to_the_folders(
    three_cases: Dataset, tmp_path: Path
) -> None:
    (three_cases.root / "dataset.json").write_text('{"name": {"a": 1}}')
    comparison = compare_datasets([three_cases.root], tmp_path / "out", workers=0).comparison
    assert comparison.of_kind("counted")[0].label == "ours"
