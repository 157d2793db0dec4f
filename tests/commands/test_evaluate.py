import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from agmm.cli import main
from agmm.commands.evaluate import evaluate
from agmm.errors import ConfigError, DataError, WeightsError
from agmm.training.run import load_run

NAMES = ("sky", "wall", "road")


def slow_confusion(run: Path, root: Path, checkpoint: str = "best") -> np.ndarray:
    """Counts of true and predicted class, pixel by pixel."""
    loaded = load_run(run, checkpoint=checkpoint)
    model = loaded.model
    counts = np.zeros((3, 3), np.int64)
    for path in sorted((root / "images/val").iterdir()):
        image = np.asarray(Image.open(path).convert("RGB"))
        truth = np.asarray(Image.open(root / "masks/val" / path.name))
        normalised = (image / 255 - np.array(model.mean)) / np.array(model.std)
        batch = torch.from_numpy(normalised.transpose(2, 0, 1)[None].astype(np.float32))
        with torch.no_grad():
            output = model(batch)
            unlabelled = torch.full((1, *truth.shape), 255)
            posterior = loaded.objective(*output, unlabelled, images=batch).posterior
            enlarged = torch.nn.functional.interpolate(posterior, truth.shape, mode="bilinear")
            prediction = (output.logits.softmax(1) * enlarged)[0].argmax(0).numpy()
        for y, x in np.ndindex(truth.shape):
            if truth[y, x] != 255:
                counts[truth[y, x], prediction[y, x]] += 1
    return counts


def slow_iou(counts: np.ndarray) -> list[float]:
    return [
        counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k])
        for k in range(len(counts))
    ]


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set whose masks have borders that do not count."""
    root = shutil.copytree(tiny_data, tmp_path / "data")
    for path in (root / "masks/val").iterdir():
        with Image.open(path) as mask:
            values = np.array(mask)
            values[:, 19:23] = 255
            changed = Image.fromarray(values)
            changed.putpalette(mask.getpalette() or [])
        changed.save(path)
    return root


@pytest.fixture
def hollow_run(tiny_run: Path, tmp_path: Path) -> Path:
    """The tiny run without its checkpoints, with a folder for others."""
    ignored = shutil.ignore_patterns("*.ckpt", "logs", "overlays")
    return shutil.copytree(tiny_run, tmp_path / "run", ignore=ignored)


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_scores_against_a_slow_count(tiny_run: Path, data: Path, checkpoint: Any) -> None:
    scores = evaluate(tiny_run, data, checkpoint=checkpoint, device="cpu")

    counts = slow_confusion(tiny_run, data, checkpoint)
    assert (counts.sum(0) > 0).sum() > 1  # the network tells at least two classes apart
    assert counts.sum() == 2 * 48 * 60
    assert scores.iou == pytest.approx(slow_iou(counts))
    assert scores.miou == pytest.approx(np.mean(slow_iou(counts)))
    assert scores.pixel_accuracy == pytest.approx(np.trace(counts) / counts.sum())
    recall = [counts[k, k] / counts[k].sum() for k in range(3)]
    assert scores.mean_accuracy == pytest.approx(np.mean(recall))


def test_the_table_and_the_file_show_the_scores(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "scores.json"
    expected = evaluate(tiny_run, tiny_data, device="cpu")

    code = main(["evaluate", str(tiny_run), str(tiny_data), "--json", str(file)])

    assert code == 0
    table = capsys.readouterr().out
    for name, iou in zip((*NAMES, "mIoU"), (*expected.iou, expected.miou), strict=True):
        (line,) = (line for line in table.splitlines() if f" {name} " in line)
        assert f" {100 * iou:.1f} " in line
    values = json.loads(file.read_text())
    assert values["run"] == str(tiny_run)
    assert values["checkpoint"] == "best"
    assert values["split"] == "val"
    assert values["step"] == load_run(tiny_run).step
    assert values["miou"] == pytest.approx(expected.miou)
    assert values["iou"] == pytest.approx(dict(zip(NAMES, expected.iou, strict=True)))


def test_scores_are_told_if_the_file_cannot_be_written(
    tiny_run: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = evaluate(tiny_run, tiny_data, device="cpu")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("agmm.commands.evaluate.write_json", full)
    words = [str(tiny_run), str(tiny_data), "--json", str(tmp_path / "scores.json")]

    assert main(["evaluate", *words]) == 1

    table, _, message = capsys.readouterr().err.partition("No space left on device")
    assert message.count("\n") == 1  # nothing follows it
    for name, iou in zip((*NAMES, "mIoU"), (*expected.iou, expected.miou), strict=True):
        assert f" {100 * iou:.1f} " in next(t for t in table.splitlines() if f" {name} " in t)


def test_a_class_that_is_nowhere_is_null_in_the_file(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    for path in (root / "masks/val").iterdir():
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(path)

    def only_sky(*_: object, **__: object) -> np.ndarray:
        return np.zeros((48, 64), np.uint8)

    monkeypatch.setattr("agmm.commands.evaluate.predict_mask", only_sky)

    scores = evaluate(tiny_run, root, device="cpu", json=tmp_path / "scores.json")

    values = json.loads((tmp_path / "scores.json").read_text())
    assert values["iou"] == {"sky": 1.0, "wall": None, "road": None}
    assert scores.miou == 1


def test_at_one_scale_no_picture_of_probabilities_is_held(
    tiny_run: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"device": "cpu", "flip": True, "tile": 40}
    twice = evaluate(tiny_run, tiny_data, scales=(1.0, 1.0), **options)  # by their mean

    def held(*_: object, **__: object) -> None:
        pytest.fail("all probabilities were held")

    monkeypatch.setattr("agmm.inference.predict.predict_probabilities", held)

    assert evaluate(tiny_run, tiny_data, **options) == twice


def test_any_split_with_masks_can_be_scored(tiny_run: Path, tiny_data: Path) -> None:
    train = evaluate(tiny_run, tiny_data, split="train", device="cpu")
    val = evaluate(tiny_run, tiny_data, device="cpu")

    assert train != val


def test_an_unknown_split_is_refused(tiny_run: Path, tiny_data: Path) -> None:
    with pytest.raises(DataError, match=r"split 'test'; found: train \(4\), val \(2\)"):
        evaluate(tiny_run, tiny_data, split="test", device="cpu")


def test_a_data_set_with_other_classes_is_refused(
    tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    (root / "classes.txt").write_text("sky\nroad\nwall\n")

    with pytest.raises(ConfigError, match=r"sky, road, wall, but .* sky, wall, road"):
        evaluate(tiny_run, root, device="cpu")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"json": Path()}, r"--json \.: is a folder; name a file"),
        ({"tile": 0}, "tile: expected at least 1 pixel, got 0; use 1024, or a side longer"),
        (
            {"scales": (1.0, 0.0)},
            r"scales: expected one or more factors above 0, got 1\.0 0\.0; use 1\.0",
        ),
        ({}, "sky, road, wall, but .* sky, wall, road"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_decoded(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    (root / "images/val/e.png").write_bytes(b"no picture")
    if not options:
        (root / "classes.txt").write_text("sky\nroad\nwall\n")

    with pytest.raises(ConfigError, match=told):
        evaluate(tiny_run, root, device="cpu", **options)


def test_a_bad_picture_stops_or_is_skipped_and_listed(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    (root / "images/val/e.png").write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"val/e\.png"):
        evaluate(tiny_run, root, device="cpu")
    scores = evaluate(tiny_run, root, device="cpu", skip_bad=True)

    assert f"skipped {root}/images/val/e.png: " in capsys.readouterr().err
    (root / "images/val/e.png").unlink()
    assert scores.iou == pytest.approx(slow_iou(slow_confusion(tiny_run, root)))


def test_a_folder_without_a_run_is_refused(tiny_data: Path) -> None:
    with pytest.raises(WeightsError, match=r"no run folder .*; give the --out of train"):
        evaluate(tiny_data, tiny_data, device="cpu")


@pytest.mark.parametrize("checkpoint", ["best", "last"])  # the last stands in for the best
def test_a_missing_checkpoint_is_refused_by_its_name(
    hollow_run: Path, tiny_data: Path, checkpoint: Any
) -> None:
    with pytest.raises(WeightsError, match=r"checkpoints/last\.ckpt: no such checkpoint"):
        evaluate(hollow_run, tiny_data, checkpoint=checkpoint, device="cpu")


@pytest.mark.parametrize("content", ["empty", "text", "half", "list", "no state", "foreign"])
def test_a_damaged_checkpoint_is_refused_by_its_name(
    tiny_run: Path, hollow_run: Path, tiny_data: Path, content: str
) -> None:
    file = hollow_run / "checkpoints/best.ckpt"
    file.parent.mkdir(exist_ok=True)
    whole = (tiny_run / "checkpoints/best.ckpt").read_bytes()
    states: dict[str, Any] = {
        "list": [1, 2],
        "no state": {"global_step": 2},
        "foreign": {"global_step": 2, "state_dict": {"weight": torch.ones(2)}},
    }
    if content in states:
        torch.save(states[content], file)
    else:
        file.write_bytes({"empty": b"", "text": b"weights", "half": whole[:10_000]}[content])

    with pytest.raises(WeightsError, match=r"checkpoints/best\.ckpt: "):
        evaluate(hollow_run, tiny_data, device="cpu")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_checkpoint_is_not_run(
    tiny_run: Path, hollow_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    file, trace = hollow_run / "checkpoints/best.ckpt", tmp_path / "was here"
    saved = torch.load(tiny_run / "checkpoints/best.ckpt", weights_only=True)
    file.parent.mkdir(exist_ok=True)
    torch.save({**saved, "extra": Malicious(trace)}, file)

    told = (
        "not a checkpoint that can be loaded safely (more is in it than tensors and plain values);"
    )
    with pytest.raises(WeightsError, match=re.escape(told)) as refused:
        evaluate(hollow_run, tiny_data, device="cpu")

    assert "weights_only" not in str(refused.value)  # torch says how to load it all the same
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists()  # so it would have been run
