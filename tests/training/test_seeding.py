"""Seeds for tags and boxes, from records to guesses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from agmm.config import CamConfig, ClassifierConfig, PseudoConfig, TrainConfig
from agmm.data.dataset import dense_mask, read_supervision
from agmm.datasets.classes import Classes
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Record
from agmm.errors import ConfigError, DataError
from agmm.evaluation.label_quality import label_quality
from agmm.labels.annotations import Boxes
from agmm.labels.boxes import covered
from agmm.labels.forms import Form
from agmm.models.classifier import Classifier, build_classifier
from agmm.seeds.cam import activation_maps
from agmm.seeds.grabcut import grabcut_seeds
from agmm.training.seeding import check_given, seeded_form, with_seeds

QUIET = Console(quiet=True)
STAGES = "agmm.training.seeding"


@pytest.fixture
def config(
    tiny_config: Callable[..., TrainConfig], boxed_data: Path, tmp_path: Path
) -> Callable[..., TrainConfig]:
    """Give the config of a run on the boxed data in the test's own folder."""

    def make(*labels: str, **changes: Any) -> TrainConfig:
        stages = {
            "classifier": ClassifierConfig(crop=(48, 64), epochs=1, batch_size=2),
            "cam": CamConfig(scales=(1.0,), flip=False),
        }
        asked = {"data": boxed_data, "labels": labels, "complete_labels": False}
        return tiny_config(tmp_path / "run", **{**asked, **stages, **changes})

    return make


@pytest.fixture
def records(boxed_data: Path) -> tuple[Record, ...]:
    return read_dataset(boxed_data).split("train")


@pytest.fixture
def classes(boxed_data: Path) -> Classes:
    return read_dataset(boxed_data).classes


def untrained(_: Any) -> Classifier:
    model = build_classifier("mobilenetv3_small_050", "none", 3, output_stride=16, seed=1)
    assert model.head.bias is not None
    torch.nn.init.ones_(model.head.bias)  # so that the maps are above 0
    return model


def seeded(
    config: TrainConfig, records: tuple[Record, ...], classes: Classes, **options: Any
) -> tuple[Record, ...]:
    """The records with seeds, their maps from a network that nobody has trained."""
    asked = {"folder": config.out / "seeds", "device": "cpu", "classify": untrained, **options}
    return with_seeds(config, records, classes, QUIET, **asked)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_boxes_get_the_foreground_inside_of_them(
    config: Callable[..., TrainConfig], records: tuple[Record, ...], classes: Classes
) -> None:
    result = seeded(config("boxes"), records, classes)

    total = sum(
        (label_quality(r.guesses[0](), dense_mask(r), 3) for r in result[1:]),
        start=label_quality(result[0].guesses[0](), dense_mask(result[0]), 3),
    )
    assert [len(record.guesses) for record in result] == [1, 1, 1, 1]
    assert total.precision() > 0.95
    assert total.coverage([1, 2]) > 0.8
    assert total.counts[:, 0].sum() == 0  # the background comes from outside of the boxes


def test_tags_get_seeds_of_their_classes_only_and_the_maps_are_kept(
    config: Callable[..., TrainConfig], records: tuple[Record, ...], classes: Classes
) -> None:
    asked = config("tags")

    result = seeded(asked, records, classes)

    for record, named in zip(result, ([1], [2], [1, 2], [1]), strict=True):
        seeds = record.guesses[0]()
        assert set(np.unique(seeds)) <= {0, 255, *named}
        with np.load(asked.out / f"seeds/tags/maps/{record.name}.npz") as kept:
            assert kept["classes"].tolist() == named
            assert kept["maps"].shape == (len(named), 12, 16)


def test_boxes_give_the_seeds_where_there_are_tags_too(
    config: Callable[..., TrainConfig], records: tuple[Record, ...], classes: Classes
) -> None:
    asked = config("tags", "boxes")
    tagged = replace(records[0], labels={"tags": records[0].labels["tags"]})

    result = seeded(asked, (tagged, *records[1:]), classes)

    assert sorted(files(asked.out / "seeds/boxes")) == ["b.png", "c.png", "d.png"]
    assert [name for name in files(asked.out / "seeds/tags") if "/" not in name] == ["a.png"]
    given = read_supervision(
        result[1], ("tags", "boxes"), (48, 64), 3, complete=False, background=0
    )
    assert (given.seeds[dense_mask(result[1]) == 2] == 2).mean() > 0.5


def test_a_tag_without_a_box_gets_no_seeds_and_leaves_the_background_open(
    config: Callable[..., TrainConfig], records: tuple[Record, ...], classes: Classes
) -> None:
    """The boxes give the seeds; a blue thing that is tagged only may be anywhere."""
    boxes = records[2].labels["boxes"]()
    assert isinstance(boxes, Boxes)
    red = Boxes(boxes.xyxy[:1], boxes.classes[:1])
    weak = replace(records[2], labels={"tags": records[2].labels["tags"], "boxes": lambda: red})

    [result] = seeded(config("tags", "boxes"), (weak,), classes)

    given = read_supervision(result, ("tags", "boxes"), (48, 64), 3, complete=False, background=0)
    inside = np.zeros((48, 64), np.bool_)
    inside[covered(red, (48, 64))[0]] = True
    assert np.unique(given.seeds[inside]).tolist() == [1, 255]
    assert np.unique(given.seeds[~inside]).tolist() == [255]
    assert given.candidates[[0, 2]].all()
    assert (given.candidates[1] == inside).all()
    assert (dense_mask(records[2])[given.seeds == 1] == 1).mean() > 0.95


def test_a_picture_with_a_dense_mask_needs_no_seeds(
    config: Callable[..., TrainConfig], records: tuple[Record, ...], classes: Classes
) -> None:
    weak = replace(records[0], labels={k: v for k, v in records[0].labels.items() if k != "dense"})

    result = seeded(config("boxes", "dense"), (weak, *records[1:]), classes)

    assert [len(record.guesses) for record in result] == [1, 0, 0, 0]
    assert seeded_form(weak, ("tags", "boxes", "points")) == "boxes"
    assert seeded_form(weak, ("tags", "points")) == "tags"
    assert seeded_form(weak, ("points",)) is None
    assert seeded_form(records[1], ("tags", "dense")) is None


def test_a_stage_that_was_stopped_goes_on_and_gives_the_same_files(
    config: Callable[..., TrainConfig],
    records: tuple[Record, ...],
    classes: Classes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = config("tags", "boxes")
    tagged = (replace(r, labels={"tags": r.labels["tags"]}) for r in records[2:])
    records = (*records[:2], *tagged)
    seeded(asked, records, classes, folder=tmp_path / "whole")
    made: list[Any] = []

    def counted(function: Callable[..., Any], limit: int) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            if len(made) == limit:
                raise KeyboardInterrupt
            made.append(arguments[0])
            return function(*arguments, **options)

        return count

    for limit in (1, 3, 99):  # in the boxes, in the tags, not at all
        monkeypatch.setattr(f"{STAGES}.grabcut_seeds", counted(grabcut_seeds, limit))
        monkeypatch.setattr(f"{STAGES}.activation_maps", counted(activation_maps, limit))
        if limit < 99:
            with pytest.raises(KeyboardInterrupt):
                seeded(asked, records, classes)
        else:
            seeded(asked, records, classes)

    assert files(asked.out / "seeds") == files(tmp_path / "whole")
    assert len(made) == 4  # none twice


def test_seeds_that_are_there_are_copied_where_nothing_has_changed(
    config: Callable[..., TrainConfig],
    records: tuple[Record, ...],
    classes: Classes,
    tmp_path: Path,
) -> None:
    asked = config("boxes")
    seeded(asked, records, classes)

    seeded(asked, records, classes, folder=tmp_path / "again", earlier=asked.out / "seeds")

    assert files(tmp_path / "again") == files(asked.out / "seeds")


def test_the_classifier_is_trained_once(
    config: Callable[..., TrainConfig],
    records: tuple[Record, ...],
    classes: Classes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = config("tags")
    first = seeded(asked, records, classes, classify=None)
    monkeypatch.setattr("agmm.training.classify._train", None)

    second = seeded(asked, records, classes, classify=None)

    assert (asked.out / "classifier/weights.safetensors").is_file()
    for one, other in zip(first, second, strict=True):
        assert (one.guesses[0]() == other.guesses[0]()).all()


def test_other_thresholds_make_other_seeds(
    config: Callable[..., TrainConfig], records: tuple[Record, ...], classes: Classes
) -> None:
    strict = CamConfig(scales=(1.0,), flip=False, foreground=1.0, background=0.0)
    before = [r.guesses[0]() for r in seeded(config("tags"), records, classes)]

    after = [r.guesses[0]() for r in seeded(config("tags", cam=strict), records, classes)]

    assert any((one != other).any() for one, other in zip(before, after, strict=True))


def test_the_seeds_of_another_tool_are_taken_instead(
    config: Callable[..., TrainConfig],
    records: tuple[Record, ...],
    classes: Classes,
    tmp_path: Path,
) -> None:
    for index, record in enumerate(records):
        maps = torch.zeros(3, 12, 16)
        maps[1 + index % 2, :6] = 0.9
        np.save(tmp_path / f"{record.name}.npy", maps.numpy())
    asked = config("tags", seeds=(tmp_path,))

    result = seeded(asked, records, classes, classify=None)

    assert not (asked.out / "seeds").exists()
    assert not (asked.out / "classifier").exists()
    assert result[0].guesses[0]()[:20].min() == result[0].guesses[0]()[:20].max() == 1


def test_a_missing_or_broken_file_of_another_tool_is_named_before_the_training(
    config: Callable[..., TrainConfig],
    records: tuple[Record, ...],
    classes: Classes,
    tmp_path: Path,
) -> None:
    asked = config("tags", seeds=(tmp_path,))

    with pytest.raises(DataError, match=r"no seeds for the picture 'a'; looked for a\.png, a\.npy"):
        seeded(asked, records, classes)
    (tmp_path / "a.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.npy: cannot be read"):
        seeded(asked, records, classes)


@pytest.mark.parametrize(
    ("labels", "source", "message"),
    [
        (("points", "dense"), None, "expected tags or boxes, .* got points,dense"),
        (("tags",), "runs/first", "expected none with --labels pseudo:runs/first"),
    ],
)
def test_seeds_that_nothing_would_be_trained_from_are_refused(
    config: Callable[..., TrainConfig],
    tmp_path: Path,
    labels: tuple[Form, ...],
    source: str | None,
    message: str,
) -> None:
    pseudo = PseudoConfig(source=None if source is None else Path(source))
    with pytest.raises(ConfigError, match=f"^--seeds: {message}"):
        check_given(config(*labels, seeds=(tmp_path,), pseudo=pseudo))


def test_seeds_of_tags_beside_other_labels_are_taken_and_so_are_none(
    config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    refused = []
    for asked in (
        config("points", "tags", seeds=(tmp_path,)),
        config("points"),
        config("points", seeds=(tmp_path,)),
    ):
        try:
            check_given(asked)
        except ConfigError:
            refused.append((asked.labels, asked.seeds))
    assert refused == [(("points",), (tmp_path,))]
