"""``--mapping FILE`` from the command line through every command that reads data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agmm.cli import main
from agmm.datasets.reader import read_dataset
from agmm.training.run import load_run

SMALL = (
    *("--encoder", "mobilenetv3_small_050", "--encoder-weights", "none", "--decoder", "fpn"),
    *("--crop", "32", "32", "--batch-size", "2", "--val-every", "1", "--workers", "0"),
    *("--overlays", "1", "--accelerator", "cpu"),
)


def train(data: Path, labels: str, mapping: Path, out: Path, *more: str) -> int:
    words = [str(data), "--labels", labels, "--mapping", str(mapping), "--out", str(out)]
    return main(["train", *words, *SMALL, *(more or ("--max-steps", "2"))])


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of sky, wall and road one is renamed and one dropped."""
    path = tmp_path_factory.mktemp("mapping") / "ground.yaml"
    path.write_text("wall: null\nroad: ground\n")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path, ground: Path) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    assert train(tiny_data, "scribbles", ground, out) == 0
    return out


def truth(name: str, data: Path) -> np.ndarray:
    """The dense mask as the mapping ``ground`` makes it."""
    mask = np.array(Image.open(data / f"masks/{name}.png"))
    codes: np.ndarray = np.array([0, 255, 1], np.uint8)[mask]
    return codes


def test_a_training_has_the_new_classes(run: Path, tiny_data: Path) -> None:
    loaded = load_run(run)
    assert loaded.classes.names == ("sky", "ground")
    assert loaded.classes.colors == ((20, 90, 240), (70, 200, 90))
    scores = json.loads((run / "metrics.json").read_text())["last"]
    assert list(scores["iou"]) == ["sky", "ground"]
    assert [file.name for file in (run / "overlays").iterdir()] == ["a.png"]
    assert tiny_data.is_dir()


def test_a_score_counts_the_mapped_pixels(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    """Every pixel of the dropped class is left out, and of the others none."""
    words = ["evaluate", str(run), str(tiny_data), "--device", "cpu", "--json"]
    assert main([*words, str(tmp_path / "own.json")]) == 0
    own = json.loads((tmp_path / "own.json").read_text())
    assert main(["predict", str(run), f"{tiny_data}/images/val", "--out", f"{tmp_path}/out"]) == 0
    right = known = 0
    for name in "ef":
        expected = truth(f"val/{name}", tiny_data)
        predicted = np.array(Image.open(tmp_path / f"out/{name}.png"))
        right += int((predicted == expected)[expected != 255].sum())
        known += int((expected != 255).sum())
    assert own["pixel_accuracy"] == pytest.approx(right / known)


def test_another_mapping_to_the_same_classes(
    run: Path, tiny_data: Path, ground: Path, tmp_path: Path
) -> None:
    """The run's own is taken without the option, and none where the classes are there already."""
    renamed = Path(shutil.copytree(tiny_data, tmp_path / "renamed"))
    classes = (renamed / "classes.txt").read_text()
    (renamed / "classes.txt").write_text(classes.replace("wall", "fence").replace("road", "path"))
    (tmp_path / "path.yaml").write_text("fence: null\npath: ground\n")
    ready = Path(shutil.copytree(tiny_data, tmp_path / "ready"))
    (ready / "classes.txt").write_text("sky\nground\n")
    for mask in ready.rglob("*.png"):
        if mask.parent.parent.name != "images":
            Image.fromarray(
                np.where(np.array(Image.open(mask)) == 0, 0, 255).astype(np.uint8)
            ).save(mask)

    def score(data: Path, *more: str) -> dict[str, object]:
        file = tmp_path / "scores.json"
        words = ["evaluate", str(run), str(data), "--device", "cpu", "--json", str(file)]
        assert main([*words, *more]) == 0
        result: dict[str, object] = json.loads(file.read_text())
        file.unlink()
        return result

    own = score(tiny_data)
    assert score(tiny_data, "--mapping", str(ground)) == own
    assert score(renamed, "--mapping", str(tmp_path / "path.yaml")) == own
    assert score(ready)["pixel_accuracy"] != own["pixel_accuracy"]  # only the sky is scored


def test_a_mapping_to_other_classes_is_refused(
    run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.yaml").write_text("road: floor\n")
    words = ["--mapping", f"{tmp_path}/other.yaml", "--device", "cpu"]
    for command in (["evaluate"], ["label", "--out", f"{tmp_path}/pseudo"]):
        assert main([command[0], str(run), str(tiny_data), *command[1:], *words]) != 0
        assert "was trained with sky, ground" in capsys.readouterr().err


def test_pseudo_labels_have_the_new_classes(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "pseudo"
    assert main(["label", str(run), str(tiny_data), "--out", str(out), "--device", "cpu"]) == 0
    masks = [np.array(Image.open(file)) for file in sorted(out.rglob("[abcd].png"))]
    assert len(masks) >= 4
    # What the annotator drew stays, and what was dropped is open to both classes.
    labels = np.array(Image.open(tiny_data / "scribbles/a.png"))
    drawn = np.array([0, 255, 1, *[255] * 253], np.uint8)[labels]
    (mask,) = (np.array(Image.open(f)) for f in out.rglob("a.png") if "conf" not in str(f))
    np.testing.assert_array_equal(mask[drawn != 255], drawn[drawn != 255])
    assert {*np.unique(mask).tolist()} <= {0, 1}


def test_a_run_goes_on_with_the_same_mapping_only(
    tiny_data: Path, ground: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = Path(shutil.copy(ground, tmp_path / "mine.yaml"))
    out = tmp_path / "run"
    assert train(tiny_data, "scribbles", mapping, out) == 0
    (out / "checkpoints/last.ckpt").unlink()  # as if it had been stopped before
    mapping.write_text("road: ground\n")

    for words in (["--mapping", str(mapping)], []):
        start = [str(tiny_data), "--labels", "scribbles", *words, "--out", str(out)]
        assert main(["train", *start, *SMALL, "--max-steps", "2", "--resume"]) == 2
        assert "which the run was started with" in capsys.readouterr().err
    # The same classes in other words, from another file.
    mapping.unlink()
    other = tmp_path / "other.yaml"
    other.write_text("# the same\nroad: 'ground'\nwall: ~\n")
    assert train(tiny_data, "scribbles", other, out, "--max-steps", "2", "--resume") == 0
    assert load_run(out, checkpoint="last").step == 2


def test_seeds_are_judged_with_the_new_classes(
    boxed_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping, out = tmp_path / "thing.yaml", tmp_path / "run"
    mapping.write_text("red: thing\nblue: thing\n")
    assert train(boxed_data, "boxes", mapping, out) == 0
    mapping.unlink()  # the run has a copy
    capsys.readouterr()

    assert main(["seeds", str(out), str(boxed_data), "--device", "cpu"]) == 0

    assert "boxes" in capsys.readouterr().out
    masks = [np.array(Image.open(file)) for file in (out / "seeds/boxes").rglob("*.png")]
    values = {value for mask in masks for value in np.unique(mask)}
    assert values == {1, 255}  # outside of the boxes it is background without a seed


def test_drawn_labels_have_the_new_classes(tiny_data: Path, ground: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    words = ["--form", "points,scribbles,blocks", "--mapping", str(ground), "--out", str(out)]
    assert main(["simulate", str(tiny_data), *words, "--workers", "1"]) == 0
    drawn = read_dataset(out)
    assert drawn.classes.names == ("sky", "ground")
    for record in drawn.split("train"):
        expected = truth(f"train/{record.name}", tiny_data)
        for form in ("scribbles", "blocks"):
            mask = np.array(Image.open(next(out.glob(f"{form}/**/{record.name}.png"))))
            assert (mask != 255).any()
            np.testing.assert_array_equal(mask[mask != 255], expected[mask != 255])


def test_the_classes_are_checked_as_they_are_mapped(
    tiny_data: Path, ground: Path, tmp_path: Path
) -> None:
    words = ["check", str(tiny_data), "--mapping", str(ground), "--json", f"{tmp_path}/found.json"]
    assert main(words) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["classes"] == ["sky", "ground"]
    dense = found["splits"]["val"]["labels"]["dense"]["amount_per_class"]
    expected = np.concatenate([truth(f"val/{name}", tiny_data).ravel() for name in "ef"])
    assert dense == {"sky": int((expected == 0).sum()), "ground": int((expected == 1).sum())}
