"""The classifier's training: what it learns, continuing, what makes it train again."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from agmm.config import ClassifierConfig, TrainConfig
from agmm.datasets.records import Record
from agmm.errors import DataError, NonFiniteLossError, WeightsError
from agmm.labels.annotations import Tags
from agmm.models.classifier import Classifier, build_classifier
from agmm.training import classification_task, classify
from agmm.training.classify import fit_classifier, load_classifier, read_targets, stage_config

# A process of its own can be killed; it rebuilds records and config from the test's folder.
SCRIPT = """
import sys
from pathlib import Path
from rich.console import Console
sys.path.insert(0, {tests!r})
from test_classify import config_of, records_of
from agmm.training.classify import fit_classifier
root = Path({root!r})
config = config_of(root, epochs=12)
fit_classifier(config, records_of(root), 3, 0, root / "killed", Console(quiet=True))
"""


def read_tags(classes: tuple[int, ...]) -> Tags:
    return Tags(np.array(classes, np.uint8))


def records_of(root: Path) -> list[Record]:
    """Four pictures: class 1 is reddish, class 2 bluish, the background (0) is everywhere."""
    (root / "images").mkdir(exist_ok=True)
    records = []
    for number in range(4):
        file = root / f"images/{number}.png"
        if not file.exists():
            picture = np.random.default_rng(number).integers(0, 100, (40, 50, 3)).astype(np.uint8)
            picture[5:35, 5:45, 2 * (number % 2)] += 150
            Image.fromarray(picture).save(file)
        tags = partial(read_tags, (0, 1 + number % 2))
        records.append(Record(str(number), file, {"tags": tags}))
    return records


def config_of(root: Path, **classifier: Any) -> TrainConfig:
    options: dict[str, Any] = {
        "crop": (32, 32),
        "scale": (0.8, 1.2),
        "batch_size": 2,
        "epochs": 2,
        "save_every": 3,
        **classifier,
    }
    return TrainConfig(
        data=root,
        out=root / "run",
        labels=("tags",),
        encoder="resnet10t",
        encoder_weights="none",
        color_jitter=0.1,
        workers=0,
        accelerator="cpu",
        classifier=ClassifierConfig(**options),
    )


Fit = Callable[..., tuple[Classifier, str]]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """Train in a folder; give the network and what the console showed."""

    def run(folder: str, **classifier: Any) -> tuple[Classifier, str]:
        console = Console(file=StringIO(), width=200)
        config = config_of(tmp_path, **classifier)
        model = fit_classifier(config, records_of(tmp_path), 3, 0, tmp_path / folder, console)
        assert isinstance(console.file, StringIO)
        return model, console.file.getvalue()

    return run


def same_weights(a: Classifier, b: Classifier) -> bool:
    first, second = a.state_dict(), b.state_dict()
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_folder_holds_weights_checkpoint_and_losses(fit: Fit, tmp_path: Path) -> None:
    model, shown = fit("out")
    assert not model.training
    assert "classifier: 4 pictures with tags, 4 steps, stride 16" in shown
    files = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    log = "logs/csv/version_0/metrics.csv"
    assert {"weights.safetensors", "checkpoints/last.ckpt", log} <= files
    assert "train/loss" in (tmp_path / "out" / log).read_text().splitlines()[0]
    assert not [file for file in files if file.rsplit("/")[-1].startswith(".")]


def test_it_learns_the_tags(fit: Fit, tmp_path: Path) -> None:
    fit("out", epochs=15, lr=3e-3, save_every=30)
    model = load_classifier(tmp_path / "out")
    for record in records_of(tmp_path):
        image = torch.from_numpy(np.array(Image.open(record.image))).permute(2, 0, 1) / 255
        mean, std = torch.tensor([model.mean, model.std])[..., None, None]
        with torch.no_grad():
            logits = model(((image - mean) / std)[None])[0]
        right = int(record.labels["tags"]().classes[1])  # type: ignore[union-attr]
        assert logits[right] > 0 > logits[3 - right]


def test_the_background_is_no_target(fit: Fit) -> None:
    """Without a gradient its bias, which never decays, stays what it was."""
    start = build_classifier("resnet10t", "none", 3, seed=0).head.bias
    end = fit("out")[0].head.bias
    assert start is not None
    assert end is not None
    assert (start == end).tolist() == [True, False, False]


def test_without_a_background_every_class_is_a_target(tmp_path: Path) -> None:
    console = Console(quiet=True)
    config, folder = config_of(tmp_path), tmp_path / "out"
    model = fit_classifier(config, records_of(tmp_path), 3, None, folder, console)
    start = build_classifier("resnet10t", "none", 3, seed=0).head.bias
    assert start is not None
    assert model.head.bias is not None
    assert (start != model.head.bias).all()


def test_the_same_inputs_give_the_same_weights(fit: Fit) -> None:
    first, _ = fit("first")
    torch.manual_seed(99)  # whatever was drawn before must not matter
    assert same_weights(first, fit("second", save_every=1)[0])


def test_a_finished_classifier_is_loaded(
    fit: Fit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, _ = fit("out")
    shutil.rmtree(tmp_path / "out/checkpoints")  # not needed any more
    monkeypatch.setattr(classify, "_train", None)  # calling it would fail
    second, shown = fit("out")
    assert same_weights(first, second)
    assert shown == ""


def test_other_options_train_again_and_say_so(fit: Fit) -> None:
    fit("out")
    changed, shown = fit("out", lr=2e-3, scale=(0.5, 1.0))
    assert "was trained with other scale, lr; training it again" in shown
    assert same_weights(changed, fit("fresh", lr=2e-3, scale=(0.5, 1.0))[0])


def test_another_picture_of_the_same_name_trains_again(fit: Fit, tmp_path: Path) -> None:
    before, _ = fit("out")
    records = records_of(tmp_path)
    Image.new("RGB", (40, 40), (250, 120, 10)).save(records[0].image)
    console = Console(file=StringIO(), width=200)
    after = fit_classifier(config_of(tmp_path), records, 3, 0, tmp_path / "out", console)
    assert isinstance(console.file, StringIO)
    assert "other pictures and tags" in console.file.getvalue()
    assert not same_weights(before, after)


@pytest.mark.parametrize("of_a_run", [False, True])
def test_another_file_of_weights_of_the_same_name_is_noticed(
    tmp_path: Path, of_a_run: bool
) -> None:
    file, records = tmp_path / "weights.safetensors", records_of(tmp_path)
    if of_a_run:
        file = tmp_path / "run" / "weights.safetensors"
        file.parent.mkdir()
    source = file.parent if of_a_run else file
    config = dataclasses.replace(config_of(tmp_path), encoder_weights=str(source))
    targets = classify.read_targets(records, 3)
    found = []
    for content in (b"one", b"two"):
        file.write_bytes(content)
        found.append(classify._inputs(config, records, targets, 0))
    assert classify._changed(*found) == "content of encoder_weights"


def test_other_tags_train_again(fit: Fit, tmp_path: Path) -> None:
    before, _ = fit("out")
    records = records_of(tmp_path)
    records[0] = dataclasses.replace(records[0], labels={"tags": partial(read_tags, (1, 2))})
    console = Console(file=StringIO(), width=200)
    after = fit_classifier(config_of(tmp_path), records, 3, 0, tmp_path / "out", console)
    assert isinstance(console.file, StringIO)
    assert "other pictures and tags" in console.file.getvalue()
    assert not same_weights(before, after)


def test_a_checkpoint_of_other_inputs_is_not_continued(fit: Fit, tmp_path: Path) -> None:
    fit("out", lr=2e-3)
    (tmp_path / "out/weights.safetensors").unlink()  # as if killed just before the end
    assert same_weights(fit("out")[0], fit("fresh")[0])


def test_a_killed_training_ends_like_one_that_was_not(fit: Fit, tmp_path: Path) -> None:
    whole, _ = fit("whole", epochs=12)
    script = SCRIPT.format(tests=str(Path(__file__).parent), root=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script])
    last = tmp_path / "killed/checkpoints/last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 3 <= torch.load(last, weights_only=True)["global_step"] < 24
    assert same_weights(whole, fit("killed", epochs=12)[0])


def test_other_processes_wait_for_the_weights(
    fit: Fit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained, _ = fit("finished")
    monkeypatch.setattr(classify, "is_main_process", lambda: False)
    monkeypatch.setattr(classify, "_train", None)
    move = partial((tmp_path / "finished").rename, tmp_path / "out")
    timer = threading.Timer(0.2, move)
    timer.start()
    assert same_weights(trained, fit("out")[0])
    timer.join()


def test_targets_of_records(tmp_path: Path) -> None:
    expected = [[1, 1, 0], [1, 0, 1], [1, 1, 0], [1, 0, 1]]
    assert read_targets(records_of(tmp_path), 3).tolist() == expected


def test_no_record_with_tags() -> None:
    with pytest.raises(DataError, match="tags: no picture has any"):
        read_targets([], 3)


def test_a_tag_that_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1\.png: tagged with class 2, expected 0 to 1"):
        read_targets(records_of(tmp_path), 2)


def test_the_classifiers_options_come_first(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    own = stage_config(config)
    assert own.encoder == "resnet10t"  # the segmentation network's, where it has none of its own
    assert own.crop == (32, 32)
    assert own.epochs == 2
    other = dataclasses.replace(config.classifier, encoder="vit_tiny_patch16_224")
    assert stage_config(dataclasses.replace(config, classifier=other)).encoder.startswith("vit")
    several = dataclasses.replace(config, max_steps=7, devices=4, accumulate=2)
    alone = stage_config(several)
    assert (alone.max_steps, alone.devices, alone.accumulate) == (None, 1, 1)


def test_a_loss_that_is_not_finite_stops(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        classification_task,
        "binary_cross_entropy_with_logits",
        lambda *_: torch.tensor(float("nan")),
    )
    with pytest.raises(NonFiniteLossError, match=r"step 0: the loss is nan; lower --classifier.lr"):
        fit("out")


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has not finished"):
        load_classifier(tmp_path)


def test_weights_of_something_else(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match="no weights of a classifier of tags"):
        load_classifier(tmp_path)


def test_damaged_weights(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/weights.safetensors").write_bytes(b"half")
    with pytest.raises(WeightsError, match=r"cannot be read .*; delete it"):
        fit("out")


def test_a_frozen_encoder_does_not_move_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = build_classifier("resnet10t", "none", 3, seed=5)
    fresh.train()(torch.rand(4, 3, 32, 32))  # statistics of its norms that are its own
    first = dict(fresh.encoder.state_dict())
    torch.save(first, tmp_path / "encoder.pth")
    config = config_of(
        tmp_path, encoder_weights=str(tmp_path / "encoder.pth"), encoder_lr_factor=0.0
    )
    folder = tmp_path / "classifier"
    model = fit_classifier(config, records_of(tmp_path), 3, 0, folder, Console(quiet=True))
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, first[name]), name
    assert not torch.equal(model.head.weight, build_classifier("resnet10t", "none", 3).head.weight)
