"""Which annotations belong to which CT: by what they refer to, then by place and name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
import pytest
from label_objects import SOURCE, save, segment, segmentation, structure_set
from pydicom.uid import generate_uid

from pantskit.core.errors import ConfigError, LabelError
from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume
from pantskit.core.writing import write_volume
from pantskit.ingest.discovery.discover import discover, discover_labels
from pantskit.ingest.discovery.sources import Reader, SourceFile
from pantskit.ingest.labels.references import References, read_references
from pantskit.ingest.labels.sources import (
    LabelObject,
    LabelSource,
    LabelTarget,
    find_label_sources,
    match_labels,
    unused_labels,
    volume_stem,
)

A = LabelTarget(
    ("a",),
    PurePosixPath("/in/a"),
    frozenset({"1.1"}),
    frozenset({"1.1.1", "1.1.2"}),
    frozenset({"9.1"}),
)
B = LabelTarget(
    ("b",),
    PurePosixPath("/in/b"),
    frozenset({"1.2"}),
    frozenset({"1.2.1", "1.2.2"}),
    frozenset({"9.1"}),
)


@pytest.fixture
def header(series, tmp_path):
    """A header to hang references on."""
    made = series()
    made.write(tmp_path / "one", skip=(1, 2, 3, 4))
    (found,) = discover([tmp_path / "one"]).series
    return found.first


@pytest.fixture
def refers(header):
    def make(name: str, series: dict[str, set[str]], *frames: str) -> LabelSource:
        file = SourceFile(Path(f"/labels/{name}.dcm"))
        references = References(
            {uid: frozenset(named) for uid, named in series.items()}, frozenset(frames)
        )
        item = LabelObject(replace(header, file=file), references)
        return LabelSource((name,), PurePosixPath("/labels"), objects=(item,))

    return make


def names(matched: dict[str, LabelSource]) -> dict[str, list[str]]:
    return {c: [o.header.file.path.stem for o in s.objects] for c, s in matched.items()}


def test_the_series_referred_to_decides_before_any_name(refers):
    sources = [refers("a", {"1.2": set()}), refers("b", {"1.1": set()})]
    assert names(match_labels({"A": A, "B": B}, sources)) == {"A": ["b"], "B": ["a"]}


def test_all_objects_of_one_ct_are_its_annotation_together(refers):
    sources = [
        refers("x", {"1.2": set()}),
        refers("y", {"1.2": {"1.2.2"}}),
        refers("z", {"7": set()}),
    ]
    matched = match_labels({"A": A, "B": B}, sources)
    assert names(matched) == {"B": ["x", "y"]}
    assert unused_labels(matched, sources) == ("z",)


def test_slices_decide_between_stacks_of_one_series(refers):
    other = replace(B, series=A.series)
    sources = [refers("x", {"1.1": {"1.2.1"}}), refers("y", {"": {"1.1.2"}})]
    assert names(match_labels({"A": A, "B": other}, sources)) == {"B": ["x"], "A": ["y"]}
    with pytest.raises(ConfigError, match="refers to 2 of the CTs"):
        match_labels({"A": A, "B": other}, [refers("x", {"1.1": set()}), refers("y", {})])


def test_a_frame_of_reference_decides_only_where_one_ct_lies_in_it(refers):
    sources = [refers("x", {}, "9.1"), refers("y", {}, "9.2")]
    apart = replace(B, frames=frozenset({"9.2"}))
    assert names(match_labels({"A": A, "B": apart}, sources)) == {"A": ["x"], "B": ["y"]}
    with pytest.raises(ConfigError, match="none of the 2 annotations"):
        match_labels({"A": A, "B": B}, sources)


def test_objects_of_a_series_that_is_not_here_are_nobodys_by_name(refers):
    with pytest.raises(ConfigError, match="none of the 2 annotations"):
        match_labels({"A": A, "B": B}, [refers("a", {"7": set()}), refers("b", {"8": set()})])
    # Those that refer to nothing may be named for their CT.
    assert names(match_labels({"A": A, "B": B}, [refers("a", {}), refers("c", {})])) == {"A": ["a"]}


def test_a_single_ct_takes_a_single_object_which_then_says_whose_it_is(refers):
    assert names(match_labels({"A": A}, [refers("x", {"7": set()})])) == {"A": ["x"]}


def test_references_of_real_kinds_of_objects_are_read(series, tmp_path):
    made = series(attributes=dict(SOURCE))
    images = [made.dataset(k) for k in range(5)]
    uids = {i.SOPInstanceUID for i in images}
    seg = segmentation(images, np.ones((5, 6, 8), np.uint8), [segment(1, "liver")])
    rt = structure_set(images, {"liver": []})
    for n, item in enumerate((seg, rt)):
        path = save(item, tmp_path / f"{n}.dcm")
        with Reader() as reader:
            found = read_references(SourceFile(path), reader)
        assert found.series == {made.uid: uids}
        assert found.frames == {SOURCE["FrameOfReferenceUID"]}


def test_segmentations_of_two_cts_in_one_folder_find_each_its_own(series, run, tmp_path):
    for n in range(2):
        stored = np.random.default_rng(n).integers(0, 2048, (5, 6, 8), dtype=np.uint16)
        made = series(stored=stored, attributes=dict(SOURCE), uid=generate_uid())
        made.write(tmp_path / "in" / f"{n}")
        images = [made.dataset(k) for k in range(5)]
        mask = np.zeros((5, 6, 8), np.uint8)
        mask[n, : n + 1, 0] = 1
        save(segmentation(images, mask, [segment(1, "liver")]), tmp_path / "in" / f"seg{n}.dcm")
    result = run(tmp_path / "in", labels=tmp_path / "in")
    voxels = {
        result.summary.planned[r.case_id].place.split("/")[-1][0]: r.data["labels"]["voxels"]
        for r in result.summary.run.records
    }
    assert voxels == {"0": {"liver": 1}, "1": {"liver": 2}}


def test_segmentation_of_a_ct_given_as_nifti_is_read_onto_its_grid(series, run, tmp_path):
    made = series(attributes=dict(SOURCE))
    images = [made.dataset(k) for k in range(5)]
    mask = np.zeros((5, 6, 8), np.uint8)
    mask[1:3, 2:4, 5] = 1
    save(segmentation(images, mask, [segment(1, "liver")]), tmp_path / "seg.dcm")
    affine = np.diag([-0.5, -0.75, 2.5, 1])
    affine[:3, 3] = (100, 120, 50)
    grid = Geometry((8, 6, 5), affine)
    hu = np.asfortranarray(made.hu.transpose(2, 1, 0))
    write_volume(tmp_path / "ct.nii.gz", Volume(hu, grid).reoriented("RAS"))
    result = run(tmp_path / "ct.nii.gz", labels=tmp_path / "seg.dcm")
    assert result.data["labels"]["voxels"] == {"liver": 4}
    assert "was not checked by UIDs" in result.data["labels"]["faults"][0]
    # One that lies elsewhere is refused by its grid.
    moved = affine.copy()
    moved[2, 3] += 1
    write_volume(tmp_path / "ct2.nii.gz", Volume(hu, Geometry(grid.shape, moved)))
    result = run(tmp_path / "ct2.nii.gz", labels=tmp_path / "seg.dcm", out="second")
    assert "different grids" in result.message


def test_volume_names_lose_their_suffixes():
    for name in ("liver.nii.gz", "liver.nii", "liver.nrrd", "liver.NHDR", "liver.seg.nrrd"):
        assert volume_stem(name) == "liver"
    assert volume_stem("ct.0001.nii.gz") == "ct.0001"


def test_a_folder_without_any_annotation_is_told(tmp_path):
    with pytest.raises(LabelError, match="no masks; expected"):
        find_label_sources(tmp_path, [], [])
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(LabelError, match="no masks; expected"):
        discover_labels(tmp_path, [])


def test_label_maps_called_as_their_cts_are_no_masks_of_what_these_are_named_for(run, tmp_path):
    """As the MSD ships its pancreases: imagesTr/pancreas_001, labelsTr/pancreas_001."""
    grid = Geometry.from_spacing((6, 5, 4), (1.0, 1.0, 2.0))
    for number in (1, 4):
        hu = np.full(grid.shape, -500, np.int16, order="F")
        hu[number] = 40
        labels = np.zeros(grid.shape, np.uint8, order="F")
        labels[2:5, 2, 1], labels[3, 2, 1] = 1, 2
        name = f"pancreas_{number:03d}.nii.gz"
        write_volume(tmp_path / "imagesTr" / name, Volume(hu, grid))
        write_volume(tmp_path / "labelsTr" / name, Volume(labels, grid))
    folders = tmp_path / "imagesTr", tmp_path / "labelsTr"
    result = run(folders[0], labels=folders[1], label_map="msd_pancreas")
    voxels = [r.data["labels"]["voxels"] for r in result.summary.run.records]
    assert voxels == [{"pancreas": 3, "pancreatic_lesion": 1}] * 2


def test_a_label_map_is_not_taken_for_a_mask_where_its_ids_are_told(run, tmp_path):
    grid = Geometry.from_spacing((6, 5, 4), (1.0, 1.0, 2.0))
    hu = np.full(grid.shape, -500, np.int16, order="F")
    hu[1] = 40
    write_volume(tmp_path / "ct.nii.gz", Volume(hu, grid))
    labels = np.zeros(grid.shape, np.uint8, order="F")
    labels[2:5, 2, 1], labels[3, 2, 1] = 1, 2
    for name in ("pancreas_001", "pancreas_004"):
        write_volume(tmp_path / "labels" / f"{name}.nii.gz", Volume(labels, grid))
    told = {"labels": tmp_path / "labels", "label_map": "msd_pancreas"}
    result = run(tmp_path / "ct.nii.gz", **told)
    assert "--label-map does not speak of it" in result.message


@pytest.mark.parametrize("spelling", ["absolute", "dotted", "linked"])
def test_annotations_in_a_source_are_found_however_their_path_is_spelled(
    spelling, tmp_path, run, monkeypatch
):
    masks = tmp_path / "in" / "segmentations"
    masks.mkdir(parents=True)
    hu = np.random.default_rng(1).integers(-900, 900, (6, 5, 4)).astype(np.int16)
    for path, array in (("ct", hu), ("segmentations/liver", (hu > 0).astype(np.uint8))):
        nib.save(nib.Nifti1Image(array, np.diag([1.0, 1, 2, 1])), masks.parent / f"{path}.nii.gz")
    (tmp_path / "link").symlink_to(masks.parent, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    spelled = {
        "absolute": masks,
        "dotted": Path("in/../in/segmentations"),
        "linked": Path("link/segmentations"),
    }
    done = run(Path("in"), labels=spelled[spelling])
    assert done.statuses == ["done"]
    assert list(done.data["labels"]["voxels"]) == ["liver"]


def test_source_whose_volumes_are_all_annotations_is_told_so(tmp_path, run):
    folder = tmp_path / "case"
    folder.mkdir()
    hu = np.random.default_rng(1).integers(-900, 900, (6, 5, 4)).astype(np.int16)
    for name, array in (("ct", hu), ("liver", (hu > 0).astype(np.uint8))):
        nib.save(nib.Nifti1Image(array, np.diag([1.0, 1, 2, 1])), folder / f"{name}.nii.gz")
    with pytest.raises(ConfigError, match=r"2 volume files all lie in --labels .* name the files"):
        run(folder, labels=folder)
    done = run(folder / "ct.nii.gz", labels=folder)
    assert list(done.data["labels"]["voxels"]) == ["liver"]
