"""The example's network on its published weights and a real scan."""

from pathlib import Path

import numpy as np
import pytest

from pantskit.core.labels import PANTS
from pantskit.predict.protocol import OwnModel, declared_in

CODE = Path(__file__).resolve().parents[2] / "examples" / "obelisk" / "model.py"


def test_example_declares_seven_of_its_eight_organs() -> None:
    declared = declared_in(CODE)
    assert len(declared.labels) == 8
    assert len(declared.structures) == 7
    assert declared.orientation == "LAI"


@pytest.mark.slow
def test_organs_of_a_real_patient_are_where_they_should_be(
    shared_data: Path, tmp_path: Path
) -> None:
    from pantskit.core.dataset import Dataset
    from pantskit.core.volume import read_volume
    from pantskit.ingest import IngestSettings, ingest

    archive = next((shared_data / "ircadb01_case17").glob("*.zip"))
    ingest([archive], tmp_path / "dataset", IngestSettings(labels=archive, workers=0))
    case = Dataset.open(tmp_path / "dataset").cases()[0]
    image, reference = read_volume(case.image_path), case.labels()
    assert reference is not None
    model = OwnModel.load(CODE, weights=shared_data / "obelisk_weights")
    labels = model.answer(image).labels.array

    def centre(structure: str) -> np.ndarray:
        return image.geometry.to_world(np.argwhere(labels == PANTS.id_of(structure)).mean(axis=0))

    liver, truth = labels == PANTS.id_of("liver"), reference.mask("liver")
    assert truth is not None
    assert 2 * (liver & truth).sum() / (liver.sum() + truth.sum()) > 0.9
    right, front, up = 0, 1, 2  # RAS+: each axis grows that way
    assert centre("kidney_left")[right] < centre("pancreas")[right] < centre("liver")[right]
    assert centre("kidney_left")[front] < centre("pancreas")[front]
    assert centre("pancreas")[up] < centre("liver")[up]
