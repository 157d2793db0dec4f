"""Trainings learn from whole pictures what a picture shows, and nothing else changes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from agmm.commands.train import train
from agmm.config import TrainConfig
from agmm.data.dataset import supervise
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


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Vectors and classes of the pictures of every lesson, from which nothing is learned."""
    given: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(
        PresenceModel, "fit", lambda _, vectors, shown: given.append((vectors.clone(), shown))
    )
    return given


def vectors_of(run: Run, names: str) -> Tensor:
    """By hand, with the network of the last checkpoint; the pictures have the scale 1."""
    model, vectors = load_run(run.path, checkpoint="last").model, []
    for name in names:
        image = np.asarray(Image.open(run.config.data / f"images/train/{name}.png"))
        with torch.inference_mode():
            features = model(whole_input(model, image, 1.0)).features
        vectors.append(image_vectors(features.flatten(2)))
    return torch.cat(vectors)


@pytest.mark.parametrize("validates", [True, False])
def test_a_training_teaches_what_its_pictures_show(
    lessons: list[tuple[Tensor, Tensor]],
    boxed_data: Path,
    boxed_config: MakeConfig,
    tmp_path: Path,
    validates: bool,
) -> None:
    """Once in each round. Picture c shows both rectangles: its labels rule nothing out."""
    shutil.copytree(boxed_data, tmp_path / "data")
    if not validates:
        shutil.rmtree(tmp_path / "data/masks/val")
    run = train(boxed_config(tmp_path / "run", data=tmp_path / "data"))
    assert len(lessons) == 2
    vectors, shown = lessons[-1]
    assert shown.tolist() == [[True, True, False], [True, False, True], [True, True, False]]
    torch.testing.assert_close(vectors, vectors_of(run, "abd"), rtol=1e-4, atol=1e-5)


def test_the_network_is_that_of_a_training_without(
    boxed_config: MakeConfig, tmp_path: Path
) -> None:
    for asked in (True, False):
        train(boxed_config(tmp_path / str(asked), objective={"presence": asked}))
    theirs, ours = (
        load_run(tmp_path / str(asked), checkpoint="last").model.state_dict()
        for asked in (True, False)
    )
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


@pytest.mark.parametrize("why", ["labels that rule nothing out", "pictures in tiles"])
def test_where_nothing_can_be_learned_nothing_is_taught(
    lessons: list[tuple[Tensor, Tensor]],
    tiny_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    if why == "pictures in tiles":
        monkeypatch.setattr(presence, "LONGEST_SIDE", 63)
    monkeypatch.delattr(presence, "read_image")  # and no picture is decoded for it
    named = why == "pictures in tiles"
    train(tiny_config(tmp_path / "run", labels=("points",), complete_labels=named, overlays=0))
    assert [len(vectors) for vectors, _ in lessons] == [0, 0]


def test_labels_are_read_once(
    boxed_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []

    def counting(*given: Any, **options: Any) -> Any:
        reads.append(given)
        return supervise(*given, **options)

    monkeypatch.setattr(presence, "supervise", counting)
    train(boxed_config(tmp_path / "run", max_steps=2, val_every=1))
    assert len(reads) == 4


def test_what_the_network_predicts_alone_asks_for_no_lesson(
    lessons: list[tuple[Tensor, Tensor]], boxed_config: MakeConfig, tmp_path: Path
) -> None:
    train(boxed_config(tmp_path / "run", objective={"joint_prediction": False}))
    assert not lessons


def test_pictures_are_taken_evenly_from_many(
    boxed_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = boxed_config(tmp_path)
    records = read_dataset(config.data).split("train")
    for most, names in ((5, "abcd"), (4, "abcd"), (3, "abc"), (2, "ac"), (1, "a")):
        monkeypatch.setattr(presence, "MOST_PICTURES", most)
        callback = presence.LearnPresence(config, records, 3, 0)
        assert [record.name for record in callback.records] == list(names)
