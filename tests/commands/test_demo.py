from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console

from agmm.cli import main
from agmm.commands import demo as command
from agmm.config import METHODS, TrainConfig
from agmm.errors import DataError
from agmm.training.run import load_run


def test_the_whole_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    monkeypatch.setattr(command, "NUM_TRAIN", 2)
    monkeypatch.setattr(command, "NUM_VAL", 1)
    monkeypatch.setattr(command, "SIZE", (48, 64))
    monkeypatch.setattr(command, "METHODS", ("agmm",))

    assert main(["demo", "--out", str(out), "--steps", "1"]) == 0

    text = capsys.readouterr().out
    assert "scribbles" in next(line for line in text.splitlines() if " agmm " in line)
    assert f"{out}/overview.png" in text
    assert load_run(out / "agmm", checkpoint="last").step == 1
    with Image.open(out / "overview.png") as overview:
        # A training picture with strokes and mask, and a row per validation picture.
        assert overview.width >= 3 * 64
        assert overview.height >= 2 * 48


def test_the_methods_differ_in_method_and_labels_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[TrainConfig] = []
    monkeypatch.setattr(command, "train", lambda config, _: configs.append(config))
    monkeypatch.setattr(command, "evaluate", lambda *_, **__: SimpleNamespace(miou=0.5))

    rows = [command._train_one(m, tmp_path, 7, 3, Console()) for m in command.METHODS]

    assert [(row.method, row.labels) for row in rows] == [
        ("partial-ce", "scribbles"),
        ("agmm", "scribbles"),
        ("dense", "dense"),
    ]
    assert set(command.METHODS) <= set(METHODS)
    assert all(row.miou == 0.5 and row.seconds >= 0 for row in rows)
    varying = {"method", "labels", "out"}
    plain = [{k: v for k, v in vars(c).items() if k not in varying} for c in configs]
    assert plain[0] == plain[1] == plain[2]
    assert plain[0]["seed"] == 3
    assert plain[0]["max_steps"] == 7


def test_a_folder_with_other_things_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(DataError, match="not empty; remove it, or give another --out"):
        command.demo(out=tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--steps", "0", "a whole number above 0"),
        ("--seed", "-1", "a whole number from 0 to 2**32 - 1"),
    ],
)
def test_an_option_is_refused_by_its_name_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, expected: str
) -> None:
    assert main(["demo", "--out", str(tmp_path / "demo"), option, value]) == 2

    error = capsys.readouterr().err
    assert error == f"agmm demo: {option}: expected {expected}, got {value}\n"
    assert not (tmp_path / "demo").exists()
