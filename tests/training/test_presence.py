"""Trainings learn from whole pictures what a picture shows, and nothing else changes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from agmm.commands.train import train
from agmm.config import TrainConfig
from agmm.datasets.reader import read_dataset
from agmm.inference.network import whole_input
from agmm.mixture.presence import PresenceModel, image_vectors
from agmm.training import presence
from agmm.training.run import Run, load_run

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def boxed_config(boxed_data: Path, tiny_config: MakeConfig) -> MakeConfig:
    def config(out: Path, **changes: Any) -> TrainConfig:
        options: dict[str, Any] = {"data": boxed_data, "labels": ("boxes",), "overlays": 0}
        return tiny_config(out, **options | changes)

    return config


@pytest.fixture(scope="module")
def boxed_run(boxed_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(boxed_config(tmp_path_factory.mktemp("boxed") / "run"))


def learned(run: Run) -> PresenceModel:
    model = run.objective.images
    assert isinstance(model, PresenceModel)
    return model


def by_hand(run: Run, shown: dict[str, tuple[int, ...]]) -> PresenceModel:
    """Background, red and blue; the pictures have the scale 1."""
    vectors = []
    for name in shown:
        image = np.asarray(Image.open(run.config.data / f"images/train/{name}.png"))
        with torch.inference_mode():
            features = run.model(whole_input(run.model, image, 1.0)).features
        vectors.append(image_vectors(features.flatten(2)))
    classes = torch.tensor([[k in found for k in range(3)] for found in shown.values()])
    model = PresenceModel(3, run.model.feature_channels)
    model.fit(torch.cat(vectors), classes)
    return model


def test_a_training_learns_what_its_pictures_show(boxed_run: Run) -> None:
    """Picture c shows both rectangles: its labels rule nothing out, and it teaches nothing."""
    expected = by_hand(boxed_run, {"a": (0, 1), "b": (0, 2), "d": (0, 1)})
    found = learned(boxed_run)
    assert (expected.axes[1:].abs().amax(1) > 0).all()
    torch.testing.assert_close(found.axes, expected.axes, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.offsets, expected.offsets, rtol=1e-3, atol=1e-4)
    assert (found.axes[0] == 0).all()


def test_so_does_one_without_validation(
    boxed_run: Run, boxed_data: Path, boxed_config: MakeConfig, tmp_path: Path
) -> None:
    shutil.copytree(boxed_data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/masks/val")
    run = train(boxed_config(tmp_path / "run", data=tmp_path / "data"))
    validated = load_run(boxed_run.path, checkpoint="last")
    torch.testing.assert_close(learned(run).axes, learned(validated).axes)


def test_the_network_is_that_of_a_training_without(
    boxed_run: Run, boxed_config: MakeConfig, tmp_path: Path
) -> None:
    run = train(boxed_config(tmp_path / "run", objective={"presence": False}))
    assert (learned(run).axes == 0).all()
    theirs, ours = load_run(boxed_run.path).model.state_dict(), run.model.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


@pytest.mark.parametrize("why", ["labels that rule nothing out", "pictures in tiles"])
def test_where_nothing_can_be_learned_nothing_is_said(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "pictures in tiles":
        monkeypatch.setattr(presence, "LONGEST_SIDE", 63)
    run = train(
        tiny_config(
            tmp_path / "run", labels=("points",), complete_labels=why == "pictures in tiles",
            overlays=0,
        )
    )  # fmt: skip
    assert (learned(run).axes == 0).all()


def test_pictures_are_taken_evenly_from_many(
    boxed_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = boxed_config(tmp_path)
    records = read_dataset(config.data).split("train")
    for most, names in ((4, "abcd"), (3, "ac"), (2, "ac"), (1, "a")):
        monkeypatch.setattr(presence, "MOST_PICTURES", most)
        callback = presence.LearnPresence(config, records, 0)
        assert [record.name for record in callback.records] == list(names)
