"""The quick look names what headers and file sizes tell, without reading voxels."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import blobs
import numpy as np
import pytest

from pantskit.core.dataset import Dataset
from pantskit.core.errors import GeometryError, ImageError, LabelError, PantskitError
from pantskit.core.geometry import Geometry
from pantskit.core.run import Job
from pantskit.core.volume import Volume, read_header, read_volume
from pantskit.core.writing import write_volume
from pantskit.train.scan import look_at_case, look_job, require_whole


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return blobs.write_dataset(tmp_path / "dataset", n_train=1, n_test=0)


def look(dataset: Dataset) -> dict[str, object]:
    return look_at_case(look_job(dataset.case("blob_0")))


def image(dataset: Dataset) -> Path:
    return dataset.image_path("blob_0", "train")


def mask(dataset: Dataset) -> Path:
    return dataset.labels_path("blob_0", "train") / "segmentations" / "spleen.nii.gz"


def test_good_case_tells_its_structures(dataset: Dataset) -> None:
    assert look(dataset) == {
        "structures": ("liver", "spleen", "pancreas", "pancreatic_lesion")
    } or (set(look(dataset)["structures"]) == set(blobs.STRUCTURES))


def cut_short(dataset: Dataset) -> None:
    content = image(dataset).read_bytes()
    image(dataset).write_bytes(content[: len(content) // 2])


def unzip_and_cut(dataset: Dataset) -> None:
    content = gzip.decompress(image(dataset).read_bytes())
    image(dataset).write_bytes(content[:-1000])


def no_image(dataset: Dataset) -> None:
    image(dataset).unlink()


def text_for_image(dataset: Dataset) -> None:
    image(dataset).write_text("not found\n" * 100)


def mask_elsewhere(dataset: Dataset) -> None:
    volume = read_volume(mask(dataset))
    moved = Geometry.from_spacing(blobs.SHAPE, blobs.SPACING, origin=(0, 0, 0))
    write_volume(mask(dataset), Volume(volume.array, moved))


def mask_cut_short(dataset: Dataset) -> None:
    mask(dataset).write_bytes(mask(dataset).read_bytes()[:-9])


def no_labels(dataset: Dataset) -> None:
    shutil.rmtree(dataset.labels_path("blob_0", "train"))


@pytest.mark.parametrize(
    ("harm", "error", "named"),
    [
        (cut_short, ImageError, "blob_0: .*(cut short|damaged gzip)"),
        (unzip_and_cut, ImageError, "blob_0: .*cut short"),
        (no_image, ImageError, "blob_0: .*no such file"),
        (text_for_image, ImageError, "blob_0: .*not a NIfTI"),
        (mask_elsewhere, GeometryError, "blob_0: spleen.nii.gz and CT"),
        (mask_cut_short, ImageError, "blob_0: .*spleen.nii.gz"),
        (no_labels, LabelError, "blob_0: has no labels"),
    ],
)
def test_what_is_wrong_is_named_with_its_case(
    dataset: Dataset, harm: Callable[[Dataset], None], error: type[PantskitError], named: str
) -> None:
    harm(dataset)
    with pytest.raises(error, match=named):
        look(dataset)


def test_gzip_of_several_parts_and_bytes_after_the_image_are_no_fault(
    dataset: Dataset, tmp_path: Path
) -> None:
    content = gzip.decompress(image(dataset).read_bytes())
    path = tmp_path / "parts.nii.gz"
    path.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))
    require_whole(path, read_header(path))
    path.write_bytes(gzip.compress(content + b"more"))
    require_whole(path, read_header(path))


def test_file_that_changed_is_looked_at_again(dataset: Dataset) -> None:
    def settings() -> object:
        job: Job = look_job(dataset.case("blob_0"))
        return job.settings

    before = settings()
    assert settings() == before
    volume = read_volume(image(dataset))
    write_volume(image(dataset), volume.with_array(np.zeros_like(volume.array)))
    assert settings() != before
