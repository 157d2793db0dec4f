"""A second network on the pseudo labels of a first."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from agmm.cli import main
from agmm.commands.label import label
from agmm.commands.seeds import seeds
from agmm.commands.train import train
from agmm.config import (
    CamConfig,
    ClassifierConfig,
    PseudoConfig,
    TrainConfig,
    from_plain,
    read_yaml,
)
from agmm.data.dataset import read_supervision
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Record
from agmm.errors import ConfigError, DataError, WeightsError
from agmm.training import labelling
from agmm.training.pseudo import check_source, with_found_seeds, with_source
from agmm.training.run import load_run

Config = Callable[..., TrainConfig]
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path, tiny_data: Path) -> Path:
    """What ``agmm label`` writes from the run; nobody may write to it."""
    out = tmp_path_factory.mktemp("labelled") / "pseudo"
    label(tiny_run, tiny_data, out=out, device="cpu")
    return out


@pytest.fixture
def second(tiny_config: Config, tmp_path: Path) -> Config:
    """Give the config of a training on the pseudo labels of a source."""

    def config(source: Path, *, threshold: float = 0.0, **changes: Any) -> TrainConfig:
        options: dict[str, Any] = {"labels": (), "complete_labels": False, **changes}
        pseudo = PseudoConfig(source=source, threshold=threshold)
        return tiny_config(options.pop("out", tmp_path / "second"), pseudo=pseudo, **options)

    return config


def ready(
    config: TrainConfig, folder: Path, records: tuple[Record, ...] | None = None
) -> tuple[Record, ...]:
    """The training records with their pseudo labels."""
    dataset = read_dataset(config.data)
    return with_found_seeds(
        with_source(config),
        dataset.split("train") if records is None else records,
        dataset.classes,
        QUIET,
        folder=folder,
        device="cpu",
    )


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def shifted(mask: np.ndarray) -> np.ndarray:
    """The next class everywhere."""
    return ((mask + 1) % 3).astype(np.uint8)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_the_labels_of_the_first_run_hold_as_well(
    second: Config, tiny_run: Path, labelled: Path
) -> None:
    for source in (tiny_run, labelled):
        config = with_source(second(source))
        assert config.labels == ("scribbles",)
        assert config.complete_labels
    assert with_source(second(tiny_run, labels=("points",))).labels == ("points",)
    plain = replace(second(tiny_run, labels=("points",)), pseudo=PseudoConfig())
    assert with_source(plain) == plain


@pytest.mark.parametrize("method", ["partial-ce", "agmm"])
def test_both_stages_end_to_end(
    second: Config, tiny_run: Path, labelled: Path, tiny_data: Path, method: str
) -> None:
    run = train(second(tiny_run, method=method), QUIET)

    made = files(run.path / "seeds/pseudo")
    assert sorted(made) == ["a.png", "b.png", "c.png", "d.png"]
    for name in "abcd":  # the same labels as those of agmm label
        written = read(labelled / f"masks/{name}.png")
        assert (read(run.path / f"seeds/pseudo/{name}.png") == written).all()
    stored = from_plain(read_yaml(run.path / "config.yaml"))
    assert stored.labels == ("scribbles",)
    assert stored.pseudo.source == tiny_run
    assert load_run(run.path, checkpoint="last").step == 2
    assert (run.path / "overlays/a.png").is_file()
    # The second run can label too, and gives its pictures the guesses that it was trained on.
    out = run.path.parent / "third"
    assert label(run.path, tiny_data, out=out, device="cpu").pictures == 4
    assert files(out / "seeds/pseudo") == made


def test_a_moved_run_labels_its_pictures_without_the_run_before_it(
    second: Config,
    tiny_run: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = shutil.copytree(tiny_run, tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    run = train(second(Path("first"), overlays=0), QUIET).path
    assert from_plain(read_yaml(run / "config.yaml")).pseudo.source == first
    monkeypatch.chdir(first)
    label(run, tiny_data, out=tmp_path / "before", device="cpu")

    first.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    moved = run.rename(tmp_path / "moved")
    label(moved, tiny_data, out=tmp_path / "after", device="cpu")

    assert files(tmp_path / "after/masks") == files(tmp_path / "before/masks")
    (moved / "seeds/pseudo/c.png").unlink()
    with pytest.raises(DataError, match=r"c\.png: no such pseudo label, and .*first, from which"):
        label(moved, tiny_data, out=tmp_path / "third", device="cpu")


def test_a_picture_of_the_same_name_does_not_get_the_labels_of_another(
    second: Config, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    first = shutil.copytree(tiny_run, tmp_path / "first")
    run = train(second(first, overlays=0), QUIET).path
    shutil.rmtree(first)
    data = shutil.copytree(tiny_data, tmp_path / "data")
    # As where the pictures of both splits are counted from one.
    (data / "images/train/c.png").write_bytes((data / "images/val/e.png").read_bytes())

    with pytest.raises(DataError, match=r"c\.png: the pseudo label of another picture than .*/c"):
        label(run, data, out=tmp_path / "out", device="cpu")


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_an_annotated_pixel_keeps_its_class_and_candidates_hold(
    second: Config, tiny_run: Path, labelled: Path, tmp_path: Path, threshold: float
) -> None:
    for source in (tiny_run, labelled):
        config = with_source(second(source, threshold=threshold))
        records = ready(config, tmp_path / "seeds")
        for record in records:
            options: dict[str, Any] = {"complete": config.complete_labels, "background": None}
            (wrong,) = (guess() for guess in record.guesses)
            both = read_supervision(record, config.labels, (48, 64), 3, **options)
            bare = replace(record, guesses=())
            alone = read_supervision(bare, config.labels, (48, 64), 3, **options)
            given = alone.seeds != 255
            assert (both.seeds[given] == alone.seeds[given]).all()
            assert (both.seeds[~given] == wrong[~given]).all()
            assert (both.candidates == alone.candidates).all()
            # Also where the pseudo labels say something else.
            against = replace(record, guesses=(partial(shifted, wrong),))
            kept = read_supervision(against, config.labels, (48, 64), 3, **options)
            assert (kept.seeds[given] == alone.seeds[given]).all()


def test_a_threshold_leaves_the_unsure_pixels_open(
    second: Config, tiny_run: Path, labelled: Path, tmp_path: Path
) -> None:
    threshold = float(np.median(read(labelled / "confidence/a.png"))) / 255
    made, given = (
        [guess() for record in ready(second(source, threshold=threshold), tmp_path / "seeds")
         for guess in record.guesses]
        for source in (tiny_run, labelled)
    )  # fmt: skip

    for name, one, other in zip("abcd", made, given, strict=True):
        confidence = read(labelled / f"confidence/{name}.png") / 255
        every = read(labelled / f"masks/{name}.png")
        assert ((one == every) | (one == 255)).all()
        assert (one[confidence < threshold - 1 / 255] == 255).all()
        assert (one[confidence > threshold + 1 / 255] < 255).all()
        # A file of 8 bits can hide what lies closer to the threshold.
        differ = one != other
        assert (np.abs(confidence[differ] - threshold) <= 1 / 255).all()
    assert any((one == 255).any() and (one < 255).any() for one in made)


def test_killed_half_way_in_either_stage_it_goes_on_and_gives_the_same_files(
    second: Config, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(second(tiny_run, out=tmp_path / "whole"), QUIET).path
    config = second(tiny_run, out=tmp_path / "parts")
    labelled_pictures: list[int] = []
    original = labelling.label_image

    def counted(limit: int) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            if len(labelled_pictures) == limit:
                raise KeyboardInterrupt
            labelled_pictures.append(1)
            return original(*arguments, **options)

        return count

    for limit in (1, 3):  # in the pseudo labels, twice
        monkeypatch.setattr("agmm.training.pseudo.label_image", counted(limit))
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, resume=limit > 1), QUIET)
        assert len(files(config.out / "seeds/pseudo")) == limit
    monkeypatch.setattr("agmm.training.pseudo.label_image", counted(99))
    with monkeypatch.context() as patch:  # before the first step of the second network

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("agmm.commands.train.fit", stop)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, resume=True), QUIET)
    train(replace(config, resume=True), QUIET)

    # 4 training pictures, none twice, and 2 that tell how sure the second network is.
    assert len(labelled_pictures) == 4 + 2
    assert files(config.out / "seeds") == files(whole / "seeds")
    one, other = (
        load_run(path, checkpoint="last").model.state_dict() for path in (whole, config.out)
    )
    assert all((one[name] == other[name]).all() for name in one)


def test_the_command_line(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "small.yaml"
    options = from_plain(read_yaml(tiny_run / "config.yaml"))
    config.write_text(
        f"encoder: {options.encoder}\nencoder_weights: none\ndecoder: fpn\ncrop: [32, 32]\n"
        "batch_size: 2\nmax_steps: 1\nworkers: 0\noverlays: 0\naccelerator: cpu\n"
    )
    words = ["train", str(tiny_data), "--labels", f"pseudo:{tiny_run}", "--config", str(config)]

    assert main([*words, "--pseudo.threshold", "0.4", "--out", str(tmp_path / "run")]) == 0

    printed = capsys.readouterr().err
    assert f"pseudo labels of {tiny_run}: 4 made, 0 copied, 0 were there" in printed
    assert f"agmm on scribbles, pseudo labels of {tiny_run}, 1 steps" in printed
    assert read_yaml(tmp_path / "run/config.yaml")["pseudo"]["threshold"] == 0.4
    with pytest.raises(ConfigError, match="has no seeds of its own"):
        seeds(tmp_path / "run", tiny_data)


def test_pseudo_labels_of_a_run_on_tags(
    tiny_config: Config, boxed_data: Path, tmp_path: Path
) -> None:
    first = train(
        tiny_config(
            tmp_path / "first",
            data=boxed_data,
            labels=("tags",),
            complete_labels=False,
            classifier=ClassifierConfig(crop=(48, 64), epochs=2, batch_size=2),
            cam=CamConfig(scales=(1.0,), flip=False),
        ),
        QUIET,
    ).path
    pseudo = PseudoConfig(source=first)

    run = train(tiny_config(tmp_path / "run", data=boxed_data, labels=(), pseudo=pseudo), QUIET)

    # The seeds that the first run started from are its own, and the tags still rule classes out.
    assert files(run.path / "seeds/first/tags") == files(first / "seeds/tags")
    for name, allowed in {"a": {0, 1}, "b": {0, 2}, "d": {0, 1}}.items():
        mask = read(run.path / f"seeds/pseudo/{name}.png")
        assert set(np.unique(mask)) <= allowed
    label(first, boxed_data, out=tmp_path / "labelled", device="cpu")
    for name in "abcd":
        written = read(tmp_path / f"labelled/masks/{name}.png")
        assert (read(run.path / f"seeds/pseudo/{name}.png") == written).all()


def test_a_picture_with_a_dense_mask_needs_no_pseudo_label(
    second: Config, labelled: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(labelled, tmp_path / "source")
    (source / "masks/a.png").unlink()
    config = second(source, labels=("scribbles", "dense"))
    records = read_dataset(config.data).split("train")
    weak = replace(records[1], labels={"scribbles": records[1].labels["scribbles"]})

    result = ready(config, tmp_path / "seeds", (records[0], weak))

    assert [len(record.guesses) for record in result] == [0, 1]


def test_a_source_that_is_none_is_named(second: Config, tmp_path: Path) -> None:
    for source in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigError, match=rf"pseudo:{source}: neither a run \(no config"):
            train(second(source), QUIET)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("steps", [1, 2])
def test_an_unfinished_run_is_told(
    steps: int, second: Config, tiny_run: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(tiny_run, tmp_path / "first")
    last = source / "checkpoints/last.ckpt"
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == 2
    torch.save({**saved, "global_step": steps}, last)
    config, shown = second(source), io.StringIO()
    dataset = read_dataset(config.data)

    check_source(config, dataset.split("train"), dataset.classes, Console(file=shown))

    told = f"warning: {source} has taken 1 of its 2 steps; its pseudo labels are those of an"
    assert (told in shown.getvalue()) == (steps == 1)


def test_a_run_without_a_checkpoint_is_named(
    second: Config, tiny_run: Path, tmp_path: Path
) -> None:
    source = tmp_path / "first"
    source.mkdir()
    for name in ("config.yaml", "classes.txt"):
        shutil.copy(tiny_run / name, source / name)

    with pytest.raises(WeightsError, match=r"last\.ckpt: no such checkpoint"):
        train(second(source), QUIET)
    assert not (tmp_path / "second").exists()


def test_other_classes_are_refused_before_anything_is_written(
    second: Config, tiny_run: Path, labelled: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "classes.txt").write_text("road #145af0\nwall #e63c1e\nsky #46c85a\n")

    for source in (tiny_run, labelled):
        with pytest.raises(
            ConfigError, match=r"has the classes sky, wall, road, but the data set road, wall, sky"
        ):
            train(second(source, data=data), QUIET)
    assert not (tmp_path / "second").exists()


def test_pictures_without_a_pseudo_label_or_of_another_size_are_named(
    second: Config, labelled: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(labelled, tmp_path / "source")
    Image.new("L", (5, 6)).save(source / "masks/b.png")
    with pytest.raises(DataError, match=r"masks/b\.png: has 5x6 pixels .* has 64x48"):
        train(second(source), QUIET)
    (source / "masks/b.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 pictures have no pseudo label; .*masks/b\.png"):
        train(second(source), QUIET)
    assert not (tmp_path / "second").exists()


def test_a_confidence_that_does_not_fit_is_named(
    second: Config, labelled: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(labelled, tmp_path / "source")
    config = second(source, threshold=0.5)
    dataset = read_dataset(config.data)
    check = (with_source(config), dataset.split("train"), dataset.classes, QUIET)
    check_source(*check)
    Image.new("L", (5, 6)).save(source / "confidence/c.png")
    with pytest.raises(DataError, match=r"confidence/c\.png: expected a confidence of \(48, 64\)"):
        check_source(*check)
    (source / "confidence/c.png").unlink()
    with pytest.raises(DataError, match=r"confidence/c\.png: there is no such file"):
        check_source(*check)


def test_a_folder_of_another_tool_needs_the_forms(
    second: Config, labelled: Path, tmp_path: Path
) -> None:
    shutil.copytree(labelled / "masks", tmp_path / "other/masks")

    with pytest.raises(ConfigError, match=r"as in --labels scribbles,pseudo:"):
        with_source(second(tmp_path / "other"))
    config = second(tmp_path / "other", labels=("scribbles",))
    assert [len(r.guesses) for r in ready(config, tmp_path / "seeds")] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "content",
    ["no json", "[]", "{}", json.dumps({"labels": ["x"], "classes": [], "complete_labels": True})],
)
def test_a_damaged_note_is_named(
    second: Config, labelled: Path, tmp_path: Path, content: str
) -> None:
    source = shutil.copytree(labelled, tmp_path / "source")
    (source / "about.json").write_text(content)

    with pytest.raises(DataError, match=r"about\.json: .* Label again\."):
        with_source(second(source))
