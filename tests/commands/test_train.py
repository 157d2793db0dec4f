import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock
from PIL import Image
from rich.console import Console

from agmm.cli import main
from agmm.commands import train as command
from agmm.config import CamConfig, ClassifierConfig, TrainConfig, from_plain, read_yaml
from agmm.datasets.reader import read_dataset
from agmm.errors import ConfigError, DataError
from agmm.training.run import held, load_run

REQUIRED = ["data", "--labels", "points", "--out", "run"]
Config = Callable[..., TrainConfig]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainConfig]:
    """Run ``agmm train`` without the training, and give the config that it would have had."""
    configs: list[TrainConfig] = []

    def keep(config: TrainConfig, *_: object) -> SimpleNamespace:
        configs.append(config)
        return SimpleNamespace(path=config.out, config=config)

    monkeypatch.setattr(command, "train", keep)

    def ask(*arguments: str) -> TrainConfig:
        assert main(["train", *REQUIRED, *arguments]) == 0
        return configs[-1]

    return ask


def test_precedence(asked: Config, tmp_path: Path) -> None:
    recipe, config = tmp_path / "recipe.yaml", tmp_path / "config.yaml"
    recipe.write_text("lr: 0.1\nbatch_size: 2\nepochs: 3\n")
    config.write_text("lr: 0.2\nbatch_size: 4\n")
    files = ["--recipe", str(recipe), "--config", str(config)]
    default = asked()

    for line in (["--lr", "0.3", *files], [*files, "--lr", "0.3"], [*files[2:], *files[:2]]):
        result = asked(*line)

        assert result.lr == (0.3 if "--lr" in line else 0.2)  # the command line
        assert result.batch_size == 4  # before the config file
        assert result.epochs == 3  # before the recipe
        assert result.weight_decay == default.weight_decay  # before the default


def test_the_next_commands_can_be_copied(
    asked: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "first run"
    asked("--out", str(run))
    assert capsys.readouterr().err == f"agmm predict '{run}' PICTURES --out masks\n"

    run.mkdir()
    (run / "metrics.json").touch()
    asked("--out", str(run))
    assert capsys.readouterr().err == (
        f"agmm evaluate '{run}' data\nagmm predict '{run}' PICTURES --out masks\n"
    )


def test_a_run_is_written_by_one_training_at_a_time(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agmm.training.run.LOCK_SECONDS", 0.01)
    run = tmp_path / "run"
    seen: list[bool] = []

    def begin_again(*_: object, **__: object) -> None:
        with pytest.raises(ConfigError, match=rf"^--out {run}: another training is writing to it"):
            command.train(tiny_config(run, resume=True))
        seen.append((run / "config.yaml").is_file())
        raise DataError("stopped")

    monkeypatch.setattr(command, "_train", begin_again)
    for _ in range(2):  # the first one has ended, so that the second may write
        with pytest.raises(DataError, match=r"^stopped$"):
            command.train(tiny_config(run, resume=True))

    assert seen == [True, True]


def test_where_there_are_no_locks_nothing_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with held(tmp_path), held(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_options_of_the_objective_are_merged(asked: Config, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("objective: {mutual: 0.5, separation: 0.1}\n")

    result = asked("--recipe", str(recipe), "--objective.mutual", "0.2")

    assert result.objective == {"mutual": 0.2, "separation": 0.1}
    assert asked("--objective.mutual", "0.3").objective == {"mutual": 0.3}
    assert asked("--objective.centres", "pixels").objective == {"centres": "pixels"}
    assert asked("--objective.teacher", "false").objective == {"teacher": False}
    assert asked().objective == {}


def test_options_of_a_stage_are_merged(asked: Config, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("cam: {foreground: 0.5, scales: [1.0, 2.0]}\nseeds: [maps]\n")

    result = asked("--recipe", str(recipe), "--cam.background", "0.05", "--classifier.epochs", "7")

    assert result.cam == CamConfig(foreground=0.5, background=0.05, scales=(1.0, 2.0))
    assert result.classifier == ClassifierConfig(epochs=7)
    assert result.seeds == (Path("maps"),)
    assert asked("--seeds", "one", "two").seeds == (Path("one"), Path("two"))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--cam.foreground", "2", "cam.foreground: expected a number from 0 to 1, got 2.0"),
        ("--cam.background", "0.9", "cam.background: expected less than cam.foreground"),
        ("--classifier.epochs", "0", "classifier.epochs: expected a whole number above 0, got 0"),
        ("--grabcut.side", "-1", "grabcut.side: expected a whole number above 0, got -1"),
        ("--grabcut.colour", "1", "grabcut.colour"),
    ],
)
def test_a_bad_option_of_a_stage_is_named(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *REQUIRED, option, value]) == 2
    assert message in capsys.readouterr().err


def test_a_recipe_by_its_name(asked: Config) -> None:
    values = read_yaml(Path(__file__).parents[2] / "recipes/camvid.yaml")

    result = asked("--recipe", "camvid")

    plain = {"data": "data", "out": "run", "labels": ["points"]}
    assert result == from_plain({**values, **plain})


def test_a_recipe_without_its_name_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *REQUIRED, "--recipe"]) == 2

    error = capsys.readouterr().err
    assert error.startswith("agmm train: ")
    assert "--recipe" in error
    assert error.endswith("see 'agmm train --help'\n")


def test_a_recipe_in_a_config_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text("recipe: camvid\n")

    assert main(["train", *REQUIRED, "--config", str(tmp_path / "config.yaml")]) == 2
    assert "recipe: a config file cannot name one" in capsys.readouterr().err


def test_the_run_folder_of_a_training(tiny_run: Path, tiny_data: Path) -> None:
    run = load_run(tiny_run, checkpoint="last")

    assert run.step == 2
    assert run.classes == read_dataset(tiny_data).classes
    assert run.config.data == tiny_data
    assert {"best", "last"} <= read_yaml(tiny_run / "metrics.json").keys()
    with Image.open(tiny_run / "overlays/a.png") as overlay:
        assert overlay.width > 4 * 64
    assert not run.model.training
    assert not run.objective.training


def test_val_without_dense_masks_is_not_scored(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    shutil.rmtree(data / "masks")
    run = command.train(tiny_config(tmp_path / "run", data=data, val_every=2))
    assert run.step == 2
    assert not (run.path / "metrics.json").exists()
    assert "val has no dense masks: nothing is scored" in capsys.readouterr().err
    assert main(["check", str(data), "--labels", "scribbles"]) == 0
    assert "so that a training scores nothing" in capsys.readouterr().out


def test_a_run_is_not_overwritten(tiny_config: Config, tiny_run: Path) -> None:
    before = (tiny_run / "checkpoints/last.ckpt").stat()

    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        command.train(tiny_config(tiny_run))

    assert (tiny_run / "checkpoints/last.ckpt").stat() == before


def test_a_finished_run_is_left_as_it_is(
    tiny_config: Config, tiny_run: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(tiny_run, tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}

    run = command.train(tiny_config(path, resume=True))

    assert run.step == load_run(tiny_run).step
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_run_that_was_stopped_before_its_scores_gets_them_from_the_data_as_named_now(
    tiny_config: Config, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(tiny_run, tmp_path / "run")
    expected = (path / "metrics.json").read_bytes()
    (path / "metrics.json").unlink()
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace(str(tiny_data), str(tmp_path / "moved")))

    command.train(tiny_config(path, resume=True, overlays=2))

    assert (path / "metrics.json").read_bytes() == expected
    assert len(list((path / "overlays").iterdir())) == 2


def test_a_run_that_was_stopped_while_it_was_drawn_gets_all_its_overlays(
    tiny_config: Config, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(path / "overlays")
    draw, pictures = command.draw_overlay, iter(range(100))

    def stop_at_the_second(*arguments: Any) -> Any:
        if next(pictures) == 1:
            raise KeyboardInterrupt
        return draw(*arguments)

    monkeypatch.setattr(command, "draw_overlay", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        command.train(tiny_config(path, resume=True, overlays=3))

    command.train(tiny_config(path, resume=True, overlays=3))

    assert len(list((path / "overlays").iterdir())) == 3
    assert list(path.glob(".*")) == [path / ".lock"]


def test_a_picture_that_would_need_much_memory_is_not_drawn(
    tiny_config: Config, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(path / "overlays")
    monkeypatch.setattr(command, "MOST_VALUES", 48 * 64 * 3 - 1)
    console = Console(record=True, width=500)

    command.train(tiny_config(path, resume=True), console)

    assert list((path / "overlays").iterdir()) == []
    assert "no overlay of " in console.export_text()


def test_a_taken_folder_is_refused_before_the_pictures_are_decoded(
    tiny_config: Config, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    (root / "images/train/a.png").write_bytes(b"no picture")
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        command.train(tiny_config(tiny_run, data=root))
    with pytest.raises(ConfigError, match=r"thesis\.txt: not empty and no run"):
        command.train(tiny_config(tmp_path / "thesis.txt", data=root))


def test_a_folder_with_other_things_is_not_written_to(tiny_config: Config, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(ConfigError, match="not empty and no run"):
        command.train(tiny_config(tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_labels_that_the_data_set_does_not_have_are_refused(
    tiny_config: Config, tmp_path: Path
) -> None:
    with pytest.raises(
        DataError, match="has a label of the form blocks; found: points, scribbles, dense"
    ):
        command.train(tiny_config(tmp_path / "run", labels=("blocks",)))

    assert not (tmp_path / "run").exists()


def test_a_training_on_a_gpu_that_is_not_there_leaves_no_folder(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)

    with pytest.raises(ConfigError, match=r"^--accelerator gpu: torch finds no GPU here"):
        command.train(tiny_config(tmp_path / "run", accelerator="gpu"))

    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_network_cannot_train_on_leaves_no_folder(
    tiny_config: Config, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path / "run", decoder="deeplabv3plus", batch_size=1)

    with pytest.raises(ConfigError, match=r"at least 2 images per device.*got 1.*--batch-size"):
        command.train(config)
    assert not (tmp_path / "run").exists()


def test_seeds_that_would_not_be_used_are_refused_before_anything_is_written(
    tiny_config: Config, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"^--seeds: .* got scribbles"):
        command.train(tiny_config(tmp_path / "run", seeds=(tmp_path,)))
    assert not (tmp_path / "run").exists()


def test_more_processes_than_validation_pictures_are_refused(
    tiny_config: Config, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="which there are 2, got 4; give fewer"):
        command.train(tiny_config(tmp_path / "run", devices=2, num_nodes=2))

    assert not (tmp_path / "run").exists()


def test_a_training_on_the_cpu_is_scored_there(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there is a GPU, which may be in use or out of order."""
    asked: list[str] = []

    def pick(name: str) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    monkeypatch.setattr(command, "pick_device", pick)
    command.train(tiny_config(tmp_path / "run", method="partial-ce", max_steps=1, overlays=0))

    assert set(asked) == {"cpu"}


def test_skipped_pictures_are_listed_once(
    tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    broken = min((data / "masks/val").iterdir())
    broken.write_bytes(b"no picture")
    shown = io.StringIO()
    config = tiny_config(tmp_path / "run", data=data, skip_bad=True, overlays=0)

    with contextlib.redirect_stderr(shown):
        command.train(config, Console(file=shown))

    told = " ".join(shown.getvalue().split())
    assert told.count(f"skipped {broken}") == told.count("1 skipped in all") == 1
    assert "val mIoU: best checkpoint" in told


class StopError(Exception):
    """The test has seen enough."""


@pytest.mark.parametrize(("accumulate", "expected"), [(1, 10), (3, 30)])
def test_the_warm_up_is_a_share_of_the_steps(
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    accumulate: int,
    expected: int,
) -> None:
    seen: dict[str, Any] = {}

    def build(*_: object, **options: Any) -> None:
        seen.update(options)
        raise StopError

    monkeypatch.setattr(command, "build_objective", build)

    with pytest.raises(StopError):
        command.train(
            tiny_config(tmp_path / "run", max_steps=40, warmup=0.25, accumulate=accumulate)
        )

    # An objective counts its calls, of which a step has as many as it accumulates batches.
    assert seen["warmup_steps"] == expected
