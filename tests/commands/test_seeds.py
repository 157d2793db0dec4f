"""What ``agmm seeds`` tells about a run's seeds."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agmm.cli import main
from agmm.commands.label import label
from agmm.commands.seeds import seeds
from agmm.commands.train import train
from agmm.config import CamConfig, ClassifierConfig, TrainConfig
from agmm.errors import ConfigError


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_config: Callable[..., TrainConfig],
    boxed_data: Path,
) -> Path:
    """A finished run on tags."""
    config = tiny_config(
        tmp_path_factory.mktemp("boxed") / "run",
        data=boxed_data,
        labels=("tags",),
        complete_labels=False,
        classifier=ClassifierConfig(crop=(48, 64), epochs=2, batch_size=2),
        cam=CamConfig(scales=(1.0,), flip=False),
    )
    return train(config).path


def test_coverage_and_precision_against_threshold(run: Path, boxed_data: Path) -> None:
    before = sorted(run.rglob("*"))

    report = seeds(run, boxed_data, device="cpu")

    assert report.pictures == {"tags": 4}
    assert 0 < report.quality["tags"].coverage() <= 1
    assert report.maps is not None
    rows = [report.maps.at(threshold) for threshold in (0.05, 0.5, 0.95)]
    coverage = [row.foreground_coverage for row in rows]
    assert coverage == sorted(coverage, reverse=True)
    for row in rows:
        assert row.foreground_coverage + row.background_coverage == pytest.approx(1)
    assert sorted(run.rglob("*")) == before


def test_the_tables(run: Path, boxed_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seeds", str(run), str(boxed_data), "--device", "cpu"]) == 0

    printed = capsys.readouterr().out
    assert "tags" in printed
    assert "0.95" in printed


def test_a_mask_that_cannot_be_read_is_told_and_not_measured(
    run: Path, boxed_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(boxed_data, tmp_path / "data")
    (root / "masks/train/b.png").write_bytes(b"nothing")
    whole = seeds(run, boxed_data, device="cpu").quality["tags"]
    capsys.readouterr()

    report = seeds(run, root, device="cpu")

    printed = capsys.readouterr().err
    assert printed.count("not measured: ") == 1
    assert "masks/train/b.png" in printed
    assert report.pictures == {"tags": 4}
    found = report.quality["tags"]
    assert found.coverage() == whole.coverage()
    assert found.counts[-1].sum() == 48 * 64  # of unknown truth
    assert found.counts[:-1].sum() == 3 * 48 * 64


def test_a_run_without_seeds_is_refused(tiny_run: Path, tiny_data: Path) -> None:
    with pytest.raises(ConfigError, match="has no seeds of its own; give a run with tags or boxes"):
        seeds(tiny_run, tiny_data)


def test_pseudo_labels_from_tags(run: Path, boxed_data: Path, tmp_path: Path) -> None:
    report = label(run, boxed_data, out=tmp_path / "pseudo", device="cpu")

    assert report.pictures == 4
    assert sorted(path.name for path in (tmp_path / "pseudo/masks").iterdir()) == [
        "a.png", "b.png", "c.png", "d.png",
    ]  # fmt: skip
    for name in "abcd":
        copied = (tmp_path / f"pseudo/seeds/tags/{name}.png").read_bytes()
        assert copied == (run / f"seeds/tags/{name}.png").read_bytes()
