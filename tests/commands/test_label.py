import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from agmm.cli import main
from agmm.commands.label import label
from agmm.commands.label_report import show
from agmm.datasets.classes import Classes
from agmm.datasets.images import read_image
from agmm.datasets.masks import read_index_mask
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Record
from agmm.errors import ConfigError, DataError
from agmm.evaluation.label_quality import pseudo_label_quality
from agmm.training.labelling import label_record
from agmm.training.run import Run, load_run


@pytest.fixture
def run(tiny_run: Path) -> Run:
    return load_run(tiny_run)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_masks_and_confidence_of_every_training_picture(
    run: Run, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pseudo"

    report = label(run.path, tiny_data, out=out, device="cpu")

    files = {path.relative_to(out).as_posix() for path in out.glob("**/*.*")}
    expected = {f"{kind}/{name}.png" for kind in ("masks", "confidence") for name in "abcd"}
    assert files == expected | {"about.json", "quality.json", "reliability.png"}
    about = json.loads((out / "about.json").read_text())
    assert about["labels"] == ["scribbles"]
    assert about["classes"] == ["sky", "wall", "road"]
    assert report.pictures == 4
    assert report.coverage == 1
    palette = [channel for color in run.classes.colors for channel in color]
    for name in "abcd":
        with Image.open(out / f"masks/{name}.png") as mask:
            assert mask.size == (64, 48)
            assert mask.mode == "P"
            assert (mask.getpalette() or [])[:9] == palette
            assert np.asarray(mask).max() < 3
        with Image.open(out / f"confidence/{name}.png") as confidence:
            assert confidence.size == (64, 48)
            assert confidence.mode == "L"


def test_the_given_labels_are_kept_with_full_confidence(
    run: Run, tiny_data: Path, tmp_path: Path
) -> None:
    label(run.path, tiny_data, out=tmp_path, device="cpu", threshold=0.9)

    for name in "abcd":
        strokes = read_index_mask(tiny_data / f"scribbles/{name}.png", run.classes)
        given = strokes != 255
        assert given.any()
        assert (read(tmp_path / f"masks/{name}.png")[given] == strokes[given]).all()
        assert (read(tmp_path / f"confidence/{name}.png")[given] == 255).all()


def support_of(run: Run, record: Record) -> np.ndarray:
    """What the neighbours say of every class, at the picture's size, which the training kept."""
    image = read_image(record.image)
    mean, std = np.array(run.model.mean), np.array(run.model.std)
    picture = torch.from_numpy(((image / 255 - mean) / std).transpose(2, 0, 1))[None].float()
    annotation = record.labels["scribbles"]()
    seeds = torch.from_numpy(annotation.mask)[None].long()  # type: ignore[union-attr]
    with torch.no_grad():
        support = run.objective(*run.model(picture), seeds, images=picture).support
    enlarged = torch.nn.functional.interpolate(support, image.shape[:2], mode="bilinear")
    result: np.ndarray = enlarged[0].numpy()
    return result


def test_the_files_hold_what_network_and_mixture_say(
    run: Run, tiny_data: Path, tmp_path: Path
) -> None:
    label(run.path, tiny_data, out=tmp_path, device="cpu")

    unsure = 0
    for record in read_dataset(tiny_data).split("train"):
        result = label_record(run, record, threshold=0.0)
        # argmax of p·γ, here without the module that computes it; every class is a candidate.
        product = (result.probs * result.posterior).double().numpy()
        confidence = np.take_along_axis(support_of(run, record), product.argmax(0)[None], axis=0)[0]
        strokes = read_index_mask(tiny_data / f"scribbles/{record.name}.png", run.classes)
        given = strokes != 255
        expected = np.where(given, strokes, product.argmax(0))
        assert (read(tmp_path / f"masks/{record.name}.png") == expected).all()
        grey = np.where(given, 255, 255 * confidence)
        written = read(tmp_path / f"confidence/{record.name}.png").astype(float)
        assert np.abs(written - grey).max() <= 0.5 + 1e-3
        unsure += int((written < 250).sum())
    assert unsure > 0


def test_below_the_threshold_a_pixel_is_unlabelled(
    run: Run, tiny_data: Path, tmp_path: Path
) -> None:
    label(run.path, tiny_data, out=tmp_path / "all", device="cpu")
    every = {name: read(tmp_path / f"all/masks/{name}.png") for name in "abcd"}
    certainty = {}
    for record in read_dataset(tiny_data).split("train"):
        certainty[record.name] = label_record(run, record, threshold=0.0).confidence.numpy()
    threshold = float(np.median(np.stack(list(certainty.values()))))

    report = label(run.path, tiny_data, out=tmp_path / "some", device="cpu", threshold=threshold)

    labelled = 0
    for name in "abcd":
        kept = certainty[name] >= threshold
        labelled += int(kept.sum())
        expected = np.where(kept, every[name], 255)
        assert (read(tmp_path / f"some/masks/{name}.png") == expected).all()
    assert report.coverage == pytest.approx(labelled / (4 * 48 * 64))
    assert 0 < report.coverage < 1


def test_pseudo_labels_can_be_trained_from(run: Run, tiny_data: Path, tmp_path: Path) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    label(run.path, root, out=tmp_path / "pseudo", device="cpu", threshold=0.5)
    shutil.rmtree(root / "masks")
    shutil.copytree(tmp_path / "pseudo/masks", root / "masks/train")

    records = read_dataset(root).split("train")

    for record in records:
        mask = read(tmp_path / f"pseudo/masks/{record.name}.png")
        annotation = record.labels["dense"]()
        assert annotation.form == "dense"
        assert (annotation.mask == mask).all()  # type: ignore[union-attr]


def test_folders_of_the_pictures_are_kept(run: Run, tiny_data: Path, tmp_path: Path) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    for kind in ("images/train", "scribbles"):
        (root / kind / "deep").mkdir()
        (root / kind / "a.png").rename(root / kind / "deep" / "a.png")
    (root / "points/a.png").unlink()
    (root / "masks/train/a.png").unlink()

    label(run.path, root, out=tmp_path / "pseudo", device="cpu")

    assert (tmp_path / "pseudo/masks/deep/a.png").is_file()
    assert (tmp_path / "pseudo/confidence/deep/a.png").is_file()


def test_the_command_tells_where_the_labels_are(
    run: Run, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "[pseudo]"

    assert main(["label", str(run.path), str(tiny_data), "--out", str(out)]) == 0

    text = capsys.readouterr().out
    assert text.startswith("4 pictures, 100.0 % of the pixels labelled: ")
    assert f"{out}/masks, {out}/confidence" in text


@pytest.mark.parametrize("relative", [False, True])
def test_the_masks_of_the_data_set_are_never_replaced(
    run: Run,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    relative: bool,
) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    before = {path: path.read_bytes() for path in root.glob("**/*.*")}
    monkeypatch.chdir(root)

    with pytest.raises(ConfigError, match=r"--out .*: is the data set itself"):
        label(run.path, root, out="." if relative else root, device="cpu")

    assert {path: path.read_bytes() for path in root.glob("**/*.*")} == before


def test_a_data_set_with_other_classes_is_refused(
    run: Run, tiny_data: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    (root / "classes.txt").write_text("sky\nwall\nroad\nsea\n")

    with pytest.raises(ConfigError, match=r"sky, wall, road, sea, but .* sky, wall, road"):
        label(run.path, root, out=tmp_path / "pseudo", device="cpu")


def test_pictures_without_the_labels_of_the_training_stop_or_are_skipped(
    run: Run, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    (root / "scribbles/c.png").unlink()
    out = tmp_path / "pseudo"

    with pytest.raises(DataError, match=r"c\.png: has no label of the form scribbles"):
        label(run.path, root, out=out, device="cpu")
    report = label(run.path, root, out=out, device="cpu", skip_bad=True)

    assert report.pictures == 3
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["a.png", "b.png", "d.png"]
    assert f"skipped {root}/images/train/c.png: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["masks/c.png", "confidence/a.png", "about.json"])
def test_a_file_of_somebody_else_stops_before_anything_is_decoded(
    run: Run, tiny_data: Path, tmp_path: Path, name: str
) -> None:
    root, out = shutil.copytree(tiny_data, tmp_path / "data"), tmp_path / "pseudo"
    (root / "images/train/a.png").write_bytes(b"no picture")
    (out / name).parent.mkdir(parents=True)
    (out / name).touch()

    with pytest.raises(DataError, match=f"{name}: exists already"):
        label(run.path, root, out=out, device="cpu")

    assert [path for path in out.rglob("*") if path.is_file()] == [out / name]


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_a_threshold_that_is_no_share_is_refused(
    run: Run, tiny_data: Path, tmp_path: Path, threshold: float
) -> None:
    with pytest.raises(ConfigError, match="--threshold: expected 0 to 1"):
        label(run.path, tiny_data, out=tmp_path / "pseudo", device="cpu", threshold=threshold)

    assert not (tmp_path / "pseudo").exists()


def test_every_checkpoint_labels_for_itself(run: Run, tiny_data: Path, tmp_path: Path) -> None:
    for checkpoint in ("best", "last"):
        record = read_dataset(tiny_data).split("train")[0]
        loaded = load_run(run.path, checkpoint=checkpoint)
        label(
            run.path,
            tiny_data,
            out=tmp_path / checkpoint,
            device="cpu",
            checkpoint=checkpoint,
        )
        expected = label_record(loaded, record, threshold=0.0)
        assert (read(tmp_path / checkpoint / "masks/a.png") == expected.mask.numpy()).all()
    assert load_run(run.path, checkpoint="last").step >= run.step


def test_labelling_changes_nothing_in_the_run(run: Run, tiny_data: Path) -> None:
    record = read_dataset(tiny_data).split("train")[0]
    before = {name: value.clone() for name, value in run.objective.state_dict().items()}

    first = label_record(run, record, threshold=0.0)
    second = label_record(run, record, threshold=0.0)

    after = run.objective.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(first.mask, second.mask)
    assert torch.equal(first.confidence, second.confidence)


def test_the_labels_are_measured_where_there_are_dense_masks(
    run: Run, tiny_data: Path, tmp_path: Path
) -> None:
    report = label(run.path, tiny_data, out=tmp_path / "pseudo", device="cpu", threshold=0.4)

    labels, truth, free, confidence = [], [], [], []
    for name in "abcd":
        labels.append(read(tmp_path / f"pseudo/masks/{name}.png").ravel())
        confidence.append(read(tmp_path / f"pseudo/confidence/{name}.png").ravel() / 255)
        truth.append(read(tiny_data / f"masks/train/{name}.png").ravel())
        free.append(read(tiny_data / f"scribbles/{name}.png").ravel() == 255)
    shown, true, open_ = (np.concatenate(parts) for parts in (labels, truth, free))
    found = json.loads((tmp_path / "pseudo/quality.json").read_text())
    assert found["run"] == str(run.path)
    assert found["pictures"] == 4
    assert found["threshold"] == 0.4
    for where, figures in ((shown < 255, found["all_pixels"]), (open_, found["not_annotated"])):
        counted = where & (shown < 255)
        right = (shown == true)[counted]
        assert figures["precision"] == pytest.approx(right.mean())
        for k, name in enumerate(("sky", "wall", "road")):
            one, other = shown[counted] == k, true[counted] == k
            iou = (one & other).sum() / (one | other).sum()
            assert figures["classes"][name]["iou"] == pytest.approx(iou)
    assert found["all_pixels"]["coverage"] == pytest.approx(report.coverage)
    sums = sum(bar["pixels"] for bar in found["not_annotated"]["reliability"])
    assert sums == open_.sum()  # of any confidence, but none that was annotated
    assert found["not_annotated"]["thresholds"][0]["coverage"] == 1
    assert np.concatenate(confidence)[open_].mean() == pytest.approx(
        sum(
            bar["pixels"] * bar["confidence"]
            for bar in found["not_annotated"]["reliability"]
            if bar["pixels"]
        )
        / sums,
        abs=1 / 255,
    )
    with Image.open(tmp_path / "pseudo/reliability.png") as diagram:
        assert diagram.size == (730, 934)


def test_dense_masks_change_no_label_and_bad_ones_are_told(
    run: Run, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    (root / "masks/train/a.png").write_bytes(b"nothing")
    Image.new("L", (5, 5)).save(root / "masks/train/b.png")
    (root / "masks/train/c.png").unlink()
    label(run.path, tiny_data, out=tmp_path / "with", device="cpu")

    some = label(run.path, root, out=tmp_path / "some", device="cpu")
    shutil.rmtree(root / "masks")
    none = label(run.path, root, out=tmp_path / "none", device="cpu")

    assert some.quality is not None
    assert some.quality.pictures == 1
    printed = capsys.readouterr().err
    assert "not measured: " in printed
    assert "masks/train/b.png" in printed
    assert "5x5" in printed
    assert none.quality is None
    assert not (tmp_path / "none/quality.json").exists()
    for name in "abcd":
        first, *others = (
            (tmp_path / f"{out}/masks/{name}.png").read_bytes() for out in ("with", "some", "none")
        )
        assert others == [first, first]


def test_the_quality_on_one_screen(
    run: Run, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", str(run.path), str(tiny_data), "--out", str(tmp_path / "pseudo")]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines[1:-1])) <= 80
    text = "\n".join(lines)
    for told in ("wall", "not annotated", "unlabelled = wrong", "calibration error 0."):
        assert told in text


def test_many_classes_fit_on_the_screen_too() -> None:
    rng = np.random.default_rng(0)
    mask, noise = rng.integers(0, 60, (2, 20, 30), np.uint8)
    quality = pseudo_label_quality(
        np.where(rng.random((20, 30)) < 0.5, mask, noise),
        rng.random((20, 30)),
        mask,
        60,
        annotated=np.full((20, 30), 255, np.uint8),
    )
    names = tuple(f"[class] {k} with a name that is long" for k in range(60))
    with io.StringIO() as file:
        show(quality, Classes(names, tuple((k, k, k) for k in range(60))), Console(file=file))
        text = file.getvalue()
    assert "40 others" in text
    assert len(text.splitlines()) <= 40
