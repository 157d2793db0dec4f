"""How sure pseudo labels are where guesses helped to make them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from agmm.commands import train as command
from agmm.commands.label import label
from agmm.commands.train import train
from agmm.config import PseudoConfig, TrainConfig
from agmm.datasets.masks import read_index_mask
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Record
from agmm.datasets.writing import write_boxes
from agmm.errors import DataError
from agmm.evaluation.calibration import CalibrationMap
from agmm.labels.annotations import Boxes
from agmm.labels.protocol import Protocol, annotate
from agmm.training import calibrating
from agmm.training.calibrating import measured_calibration
from agmm.training.pseudo import with_found_seeds
from agmm.training.run import Run, load_run
from agmm.training.seeding import with_seeds

Config = Callable[..., TrainConfig]
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def boxes_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: Config, boxed_data: Path
) -> Path:
    """The finished folder of a training on boxes; nobody may write to it."""
    out = tmp_path_factory.mktemp("boxes") / "run"
    return train(tiny_config(out, data=boxed_data, labels=("boxes",)), QUIET).path


@pytest.fixture
def copied(boxes_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(boxes_run, tmp_path / "run")


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def without_val(root: Path) -> Path:
    """The data set without the split that the calibration was measured on."""
    shutil.rmtree(root / "images/val")
    shutil.rmtree(root / "masks/val")
    return root


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_it_is_what_agmm_label_finds_on_the_validation_pictures(
    copied: Path, boxed_data: Path, tmp_path: Path, checkpoint: Any
) -> None:
    stored = json.loads((copied / "calibration.json").read_text())[checkpoint]
    # The validation pictures as training pictures, with boxes round what their masks show.
    data = tmp_path / "data"
    classes = read_dataset(boxed_data).classes
    boxes: dict[str, Boxes] = {}
    for name in "ef":
        for kind in ("images", "masks"):
            target = data / kind / f"train/{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(boxed_data / kind / f"val/{name}.png", target)
        mask = read_index_mask(data / f"masks/train/{name}.png", classes)
        drawn = annotate(mask, ("boxes",), Protocol(), key=name, background=0)["boxes"]
        assert isinstance(drawn, Boxes)
        boxes[f"train/{name}.png"] = drawn
    write_boxes(data / "boxes.csv", boxes, classes)
    shutil.copy(boxed_data / "classes.txt", data / "classes.txt")
    (copied / "calibration.json").unlink()

    label(copied, data, out=tmp_path / "out", checkpoint=checkpoint, device="cpu")

    found = json.loads((tmp_path / "out/quality.json").read_text())["not_annotated"]
    bars = [bar for bar in found["reliability"] if bar["pixels"]]
    assert stored["confidence"] == pytest.approx([bar["confidence"] for bar in bars])
    assert stored["expected_calibration_error"] == pytest.approx(
        found["expected_calibration_error"]
    )
    weights = np.array([bar["pixels"] for bar in bars])
    right = np.array([bar["accuracy"] for bar in bars])
    assert weights @ stored["accuracy"] == pytest.approx(weights @ right)
    assert np.diff(stored["accuracy"]).min() >= 0


def test_labels_have_the_calibrated_confidence(
    copied: Path, boxed_data: Path, tmp_path: Path
) -> None:
    # The run is complete in itself: no validation picture is needed any more.
    data = without_val(shutil.copytree(boxed_data, tmp_path / "data"))
    points = {"confidence": [0.0, 1.0], "accuracy": [0.0, 0.5]}
    (copied / "calibration.json").write_text(json.dumps({"best": points, "last": points}))
    label(copied, data, out=tmp_path / "calibrated", threshold=0.3, device="cpu")
    (copied / "calibration.json").unlink()
    label(copied, data, out=tmp_path / "plain", device="cpu")

    unsure = 0
    for name in "abcd":
        plain = read(tmp_path / f"plain/confidence/{name}.png").astype(float)
        mapped = read(tmp_path / f"calibrated/confidence/{name}.png").astype(float)
        # What is outside of every box is the annotator's word.
        annotated = mapped == 255
        assert annotated.any()
        assert (plain[annotated] == 255).all()
        assert np.abs(mapped - plain / 2)[~annotated].max() <= 1
        mask = read(tmp_path / f"calibrated/masks/{name}.png")
        clear = np.abs(mapped - 0.3 * 255) > 1
        assert ((mask == 255) == (mapped < 0.3 * 255))[clear].all()
        unsure += int((mask == 255).sum())
    assert unsure > 0


def test_a_second_network_takes_the_calibrated_confidence(
    copied: Path, tiny_config: Config, boxed_data: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        tmp_path / "second", data=boxed_data, labels=("boxes",),
        pseudo=PseudoConfig(source=copied, threshold=0.5),
    )  # fmt: skip
    dataset = read_dataset(boxed_data)
    labelled = {}
    for accuracy in (0.4, 0.6):  # of every label, so that all or none are sure enough
        points = {"confidence": [0.5], "accuracy": [accuracy]}
        (copied / "calibration.json").write_text(json.dumps({"best": points, "last": points}))
        # The same folder: the pseudo labels are made anew.
        records = with_found_seeds(
            config, dataset.split("train"), dataset.classes, QUIET,
            folder=tmp_path / "seeds", device="cpu",
        )  # fmt: skip
        labelled[accuracy] = [guess() != 255 for record in records for guess in record.guesses]

    assert all(picture.all() for picture in labelled[0.6])
    assert not any(picture.all() for picture in labelled[0.4])


def test_a_run_without_guesses_has_none(tiny_run: Path) -> None:
    assert not (tiny_run / "calibration.json").exists()
    assert load_run(tiny_run).calibration is None


def test_each_checkpoint_has_its_own(copied: Path) -> None:
    one, other = ({"confidence": [0.5], "accuracy": [accuracy]} for accuracy in (0.25, 0.75))
    (copied / "calibration.json").write_text(json.dumps({"best": one, "last": other}))
    assert load_run(copied).calibration == CalibrationMap((0.5,), (0.25,))
    assert load_run(copied, checkpoint="last").calibration == CalibrationMap((0.5,), (0.75,))
    (copied / "checkpoints/best.ckpt").unlink()
    assert load_run(copied).calibration == CalibrationMap((0.5,), (0.75,))


@pytest.mark.parametrize(
    "content",
    [
        "{}", "[]", "no JSON", '{"best": {"confidence": [0.5]}}', '{"best": null}',
        '{"best": {"confidence": ["a"], "accuracy": [0.5]}}',
        '{"best": {"confidence": [[0.5]], "accuracy": [0.5]}}',
        '{"best": {"confidence": [0.5], "accuracy": [2]}}',
    ],
)  # fmt: skip
def test_a_damaged_one_is_named(copied: Path, content: str) -> None:
    (copied / "calibration.json").write_text(content)

    with pytest.raises(DataError, match=r"calibration\.json: "):
        load_run(copied)


@pytest.fixture
def records(boxed_data: Path, tmp_path: Path, boxes_run: Path) -> tuple[Record, ...]:
    """Training records with the guesses of the run."""
    dataset = read_dataset(boxed_data)
    return with_seeds(
        load_run(boxes_run).config, dataset.split("train"), dataset.classes, QUIET,
        folder=tmp_path / "guesses", device="cpu",
    )  # fmt: skip


def measured(
    run: Run, train_records: tuple[Record, ...], val: tuple[Record, ...], out: Path
) -> Any:
    return measured_calibration(
        run, train_records, val, run.classes, QUIET, folder=out, device="cpu"
    )


def test_labels_are_drawn_in_the_forms_of_the_guessed_pictures(
    boxes_run: Path, boxed_data: Path, records: tuple[Record, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = load_run(boxes_run)
    run = replace(run, config=replace(run.config, labels=("tags", "boxes")))
    a, b, c, d = records
    tagged = replace(c, labels={"tags": c.labels["tags"]})
    given = (a, replace(b, guesses=()), tagged, replace(d, guesses=()))
    drawn: list[Record] = []

    def keep(_: Run, asked: list[Record], *__: Any, **___: Any) -> tuple[Record, ...]:
        drawn.extend(asked)
        return tuple(asked)

    monkeypatch.setattr(calibrating, "with_seeds_of", keep)
    monkeypatch.setattr(calibrating, "MOST_PICTURES", 2)
    val = read_dataset(boxed_data).split("val")

    measured(run, given, (*val, *val), tmp_path)

    assert [record.name for record in drawn] == ["e", "e"]
    assert [set(record.labels) for record in drawn] == [{"tags", "boxes"}, {"tags"}]
    boxes = drawn[0].labels["boxes"]()
    assert isinstance(boxes, Boxes)
    mask = read_index_mask(boxed_data / "masks/val/e.png", run.classes)
    rows, columns = np.nonzero(mask == 2)
    extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert boxes.xyxy.tolist() == [extent]


def test_without_guesses_that_can_be_made_there_is_none(
    boxes_run: Path, boxed_data: Path, records: tuple[Record, ...], tmp_path: Path
) -> None:
    run, val = load_run(boxes_run), read_dataset(boxed_data).split("val")
    bare = tuple(replace(record, guesses=()) for record in records)
    given_seeds = replace(run, config=replace(run.config, seeds=(tmp_path,)))
    folder = PseudoConfig(source=tmp_path)
    given_labels = replace(run, config=replace(run.config, pseudo=folder))

    assert measured(run, records, val, tmp_path / "a") is not None
    assert measured(run, bare, val, tmp_path / "b") is None
    assert measured(run, records, (), tmp_path / "c") is None
    assert measured(given_seeds, records, val, tmp_path / "d") is None
    assert measured(given_labels, records, val, tmp_path / "e") is None


def test_a_mask_is_no_label_where_some_pictures_are_trained_with_theirs(
    boxes_run: Path, boxed_data: Path, records: tuple[Record, ...], tmp_path: Path
) -> None:
    run, val = load_run(boxes_run), read_dataset(boxed_data).split("val")
    mixed = replace(run, config=replace(run.config, labels=("boxes", "dense")))
    boxed = tuple(replace(r, labels={"boxes": r.labels["boxes"]}) for r in records)

    expected = measured(run, boxed, val, tmp_path / "a")
    found = measured(mixed, boxed, val, tmp_path / "b")

    assert found is not None
    assert found.pixels.sum() > 0
    assert found.pixels.tolist() == expected.pixels.tolist()
    assert found.correct.tolist() == expected.correct.tolist()


def test_pictures_that_would_need_much_memory_are_left_out(
    copied: Path, tiny_config: Config, boxed_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("calibration.json", "metrics.json"):
        (copied / file).unlink()
    monkeypatch.setattr(command, "MOST_VALUES", 48 * 64 * 3 - 1)

    train(tiny_config(copied, data=boxed_data, labels=("boxes",), resume=True), QUIET)

    assert (copied / "metrics.json").is_file()
    assert not (copied / "calibration.json").exists()
