import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from agmm.cli import main
from agmm.commands.predict import mask_paths, predict
from agmm.datasets.images import read_image
from agmm.datasets.masks import read_index_mask
from agmm.errors import ConfigError, DataError, TooLargeError, WeightsError
from agmm.inference.predict import predict_probabilities
from agmm.training.run import load_run

Touch = Callable[..., list[Path]]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """Make empty files below the test's folder; for these functions names are enough."""

    def touch(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return paths

    return touch


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of different sizes and kinds, one of them in a folder of its own."""
    root = tmp_path / "pictures"
    (root / "deep/er").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (30, 50)), ("b.jpg", (48, 64)), ("deep/er/c.d.png", (33, 21))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / name)
    (root / "notes.txt").write_text("not a picture")
    return root


def slow_probabilities(run: Path, image: np.ndarray) -> np.ndarray:
    """p·γ of the whole picture, in numpy but for the network and the posterior of the mixture."""
    loaded = load_run(run)
    model = loaded.model
    normalised = ((image / 255 - np.array(model.mean)) / np.array(model.std)).astype(np.float32)
    pictures = torch.from_numpy(normalised.transpose(2, 0, 1))[None]
    with torch.no_grad():
        output = model(pictures)
        unlabelled = torch.full((1, *image.shape[:2]), 255)
        posterior = loaded.objective(*output, unlabelled, images=pictures).posterior
    logits = output.logits[0].double().numpy()
    powers = np.exp(logits - logits.max(0))
    # The network's cells have 4 pixels a side; the last ones reach beyond the picture.
    covered = [4 * cells for cells in posterior.shape[2:]]
    enlarged = torch.nn.functional.interpolate(posterior, covered, mode="bilinear")
    scores = powers * enlarged[0, :, : image.shape[0], : image.shape[1]].numpy()
    result: np.ndarray = scores / scores.sum(0)
    return result


def test_mask_paths_of_a_folder_keep_its_folders(touch: Touch, tmp_path: Path) -> None:
    a, b, c, _ = touch("in/a.jpg", "in/x/B.PNG", "in/x/y/c.d.tif", "in/notes.txt")

    found = mask_paths(tmp_path / "in", tmp_path / "out")

    out = tmp_path / "out"
    assert found == {a: out / "a.png", b: out / "x/B.png", c: out / "x/y/c.d.png"}


def test_mask_paths_of_one_picture(touch: Touch, tmp_path: Path) -> None:
    (picture,) = touch("in/c.d.jpg")

    assert mask_paths(picture, tmp_path / "out") == {picture: tmp_path / "out/c.d.png"}


def test_pictures_without_a_place_of_their_own_are_refused(touch: Touch, tmp_path: Path) -> None:
    touch("in/a.jpg", "in/a.png")

    with pytest.raises(DataError, match=r"a\.(jpg|png) and .*a\.(jpg|png): both .*out/a\.png"):
        mask_paths(tmp_path / "in", tmp_path / "out")


def test_the_same_name_in_two_folders_is_no_collision(touch: Touch, tmp_path: Path) -> None:
    touch("in/x/a.jpg", "in/y/a.png")

    assert len(mask_paths(tmp_path / "in", tmp_path / "out")) == 2


def test_pictures_behind_a_link_are_found_and_a_folder_is_no_picture(
    touch: Touch, tmp_path: Path
) -> None:
    touch("elsewhere/a.jpg", "in/b.png/c.jpg", "in/.hidden/d.jpg")
    (tmp_path / "in/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)

    found = mask_paths(tmp_path / "in", tmp_path / "out")

    assert found == {
        tmp_path / "in/b.png/c.jpg": tmp_path / "out/b.png/c.png",
        tmp_path / "in/linked/a.jpg": tmp_path / "out/linked/a.png",
    }


@pytest.mark.parametrize(
    ("names", "out"),
    [
        (["in/a.png"], "in"),
        (["in/a.png"], "in/../in"),
        (["in/a.jpg", "in/a.png"], "in"),
        (["in/a.jpg", "in/sub/a.png"], "in/sub"),  # the mask of a.jpg would be sub/a.png
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_pictures_are_never_overwritten(
    touch: Touch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    out: str,
    relative: bool,
) -> None:
    touch(*names)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DataError, match="exists already; give another --out"):
        mask_paths(Path("in"), Path(out) if relative else tmp_path / out)


def test_one_picture_is_not_overwritten_either(touch: Touch, tmp_path: Path) -> None:
    (picture,) = touch("in/a.png")

    with pytest.raises(DataError, match="exists already; give another --out"):
        mask_paths(picture, tmp_path / "in")


def test_masks_may_lie_beside_pictures_of_another_kind(touch: Touch, tmp_path: Path) -> None:
    (picture,) = touch("in/a.jpg")

    assert mask_paths(tmp_path / "in", tmp_path / "in") == {picture: tmp_path / "in/a.png"}


def test_a_folder_that_is_not_there_is_told_so(touch: Touch, tmp_path: Path) -> None:
    touch("other/a.png")

    with pytest.raises(DataError, match=r"in: there is no such file or folder. Correct the path"):
        mask_paths(tmp_path / "in", tmp_path / "out")


def test_masks_need_a_folder(touch: Touch) -> None:
    picture, file = touch("in/a.jpg", "out")

    with pytest.raises(DataError, match=rf"--out {file}: is a file; name a folder"):
        mask_paths(picture, file)


def test_a_whole_data_set_is_refused(touch: Touch, tmp_path: Path) -> None:
    touch("in/images/a.jpg", "in/points/a.png", "in/classes.txt")

    with pytest.raises(DataError, match=r"in: is a data set, .* give .*in/images$"):
        mask_paths(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("name", ["in/notes.txt", "in/.other/a.png"])
def test_no_picture_at_all_is_refused(touch: Touch, tmp_path: Path, name: str) -> None:
    touch(name)

    with pytest.raises(DataError, match=r"in: no pictures \(.*\.jpg .*\) found there"):
        mask_paths(tmp_path / "in", tmp_path / "out")


def test_every_picture_gets_the_argmax_of_the_network(
    tiny_run: Path, pictures: Path, tmp_path: Path
) -> None:
    skipped = predict(tiny_run, pictures, out=tmp_path / "masks", device="cpu")

    assert skipped == {}
    written = {p.relative_to(tmp_path / "masks").as_posix() for p in tmp_path.glob("masks/**/*.*")}
    assert written == {"a.png", "b.png", "deep/er/c.d.png"}
    palette = [channel for color in load_run(tiny_run).classes.colors for channel in color]
    for picture in (pictures / "a.png", pictures / "b.jpg", pictures / "deep/er/c.d.png"):
        image = read_image(picture)
        target = tmp_path / "masks" / picture.relative_to(pictures).with_suffix(".png")
        with Image.open(target) as mask:
            assert mask.mode == "P"
            assert mask.size == (image.shape[1], image.shape[0])
            assert (mask.getpalette() or [])[:9] == palette
            values = np.asarray(mask)
        assert values.max() < 3
        probs = slow_probabilities(tiny_run, image)
        best = np.sort(probs, axis=0)
        clear = best[-1] - best[-2] > 1e-4
        assert clear.mean() > 0.9
        assert (values == probs.argmax(0))[clear].all()


def test_probabilities_are_written_beside_the_masks(
    tiny_run: Path, pictures: Path, tmp_path: Path
) -> None:
    predict(tiny_run, pictures, out=tmp_path / "masks", probabilities=True, device="cpu")

    files = sorted(path.name for path in tmp_path.glob("masks/**/*.npy"))
    assert files == ["a.npy", "b.npy", "c.d.npy"]
    probs = np.load(tmp_path / "masks/deep/er/c.d.npy")
    assert probs.dtype == np.float16
    assert probs.shape == (3, 33, 21)
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.astype(np.float64).sum(0), 1, atol=2e-3)
    expected = slow_probabilities(tiny_run, read_image(pictures / "deep/er/c.d.png"))
    np.testing.assert_allclose(probs, expected, atol=1e-3)


def test_an_array_of_somebody_else_is_not_overwritten(
    tiny_run: Path, pictures: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "masks/b.npy"
    theirs.parent.mkdir()
    theirs.write_bytes(b"a day's work")

    with pytest.raises(DataError, match=r"b\.npy: exists already; give another --out"):
        predict(tiny_run, pictures, out=theirs.parent, probabilities=True, device="cpu")

    assert [path.name for path in theirs.parent.iterdir()] == ["b.npy"]
    assert theirs.read_bytes() == b"a day's work"
    predict(tiny_run, pictures / "b.jpg", out=theirs.parent, device="cpu")  # writes no array


def test_options_reach_the_prediction(tiny_run: Path, pictures: Path, tmp_path: Path) -> None:
    picture = pictures / "b.jpg"
    predict(tiny_run, picture, out=tmp_path / "a", probabilities=True, device="cpu", flip=True)

    image = read_image(picture)
    mirrored = slow_probabilities(tiny_run, image[:, ::-1])[..., ::-1]
    expected = (slow_probabilities(tiny_run, image) + mirrored) / 2
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == ["b.npy", "b.png"]
    np.testing.assert_allclose(np.load(tmp_path / "a/b.npy"), expected, atol=1e-3)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of a thousand pixels are too large to be held."""
    monkeypatch.setattr("agmm.datasets.images.MAX_PIXELS", 1000)


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_a_large_picture_gets_the_same_mask_as_one_that_is_held(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (301, 93, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "map.tif", compression="tiff_lzw")
    options: dict[str, Any] = {"device": "cpu", "tile": 64, "scales": (scale,)}
    predict(tiny_run, tmp_path / "map.tif", out=tmp_path / "held", **options)
    run = load_run(tiny_run)
    mask = read_index_mask(tmp_path / "held/map.png", run.classes)

    monkeypatch.setattr("agmm.datasets.images.MAX_PIXELS", 1000)
    predict(tiny_run, tmp_path / "map.tif", out=tmp_path / "windows", **options)

    probs = predict_probabilities(
        run.model, image, objective=run.objective, device="cpu", tile=64, scales=[scale]
    )
    assert np.array_equal(mask, probs.argmax(0))
    held, windows = (tmp_path / name / "map.png" for name in ("held", "windows"))
    assert held.read_bytes() == windows.read_bytes()


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("option", [{"probabilities": True}, {"scales": (1.0, 2.0)}])
def test_what_a_large_picture_cannot_have_is_said(
    tiny_run: Path, tmp_path: Path, option: dict[str, Any]
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "map.tif")

    with pytest.raises(TooLargeError, match=r"map\.tif: .*--scales.*--probabilities.*one scale"):
        predict(tiny_run, tmp_path / "map.tif", out=tmp_path / "masks", device="cpu", **option)


@pytest.mark.usefixtures("small_limit")
def test_a_large_picture_that_breaks_off_leaves_no_mask(tiny_run: Path, tmp_path: Path) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "masks"
    pictures.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (600, 40, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "TIFF", tiffinfo={278: 16})
    whole = file.getvalue()
    # The header comes first: what is missing is met in the middle.
    (pictures / "broken.tif").write_bytes(whole[: len(whole) * 3 // 4])
    (pictures / "whole.tif").write_bytes(whole)

    skipped = predict(tiny_run, pictures, out=out, device="cpu", tile=64, skip_bad=True)

    assert list(skipped) == [str(pictures / "broken.tif")]
    assert [path.name for path in out.iterdir()] == ["whole.png"]


def test_options_that_cannot_be_used_are_named_as_they_are_called(
    tiny_run: Path, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"^scales: expected"):
        predict(tiny_run, pictures, out=tmp_path / "masks", device="cpu", scales=(0.0,))
    assert list(tmp_path.glob("masks/*")) == []


def test_a_broken_picture_stops(tiny_run: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"broken\.png"):
        predict(tiny_run, pictures, out=tmp_path / "masks", device="cpu")


def test_after_a_broken_picture_it_is_told_how_to_go_on(
    tiny_run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "aa.png").write_bytes(b"no picture")
    out = tmp_path / "masks"

    assert main(["predict", str(tiny_run), str(pictures), "--out", str(out)]) == 1

    error = capsys.readouterr().err
    assert "aa.png: cannot be read as a picture" in error
    assert f"give --skip-bad; 1 mask in {out} was written before: remove what is there" in error
    assert [path.name for path in out.iterdir()] == ["a.png"]


def test_pictures_that_are_all_broken_are_a_failure(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"no picture")

    words = ["predict", str(tiny_run), str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main([*words, "--skip-bad"]) == 1

    error = capsys.readouterr().err
    assert f"{tmp_path / 'in'}: no mask was written, as none of the 2 pictures can be" in error
    assert "a.png: cannot be read as a picture" in error


def test_a_broken_picture_is_skipped_and_listed_where_that_is_wished(
    tiny_run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = pictures / "bro[k]en.png"
    broken.write_bytes(b"no picture")
    out = tmp_path / "[masks]"

    code = main(["predict", str(tiny_run), str(pictures), "--out", str(out), "--skip-bad"])

    assert code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"skipped {broken}: ")
    assert lines[-1] == f"masks in {out}, 1 skipped"
    assert sorted(p.name for p in out.glob("**/*.png")) == ["a.png", "b.png", "c.d.png"]


def test_pictures_of_types_that_are_not_read_are_told(
    tiny_run: Path, pictures: Path, tmp_path: Path
) -> None:
    other = pictures / "deep/phone.HEIC"
    for file in (other, pictures / "a.cr2"):  # the raw file of a.png
        file.write_bytes(b"no picture")
    out = tmp_path / "masks"

    with pytest.raises(DataError, match=r"(?s)phone\.HEIC: is a picture of a type .*--skip-bad\.$"):
        predict(tiny_run, pictures, out=out, device="cpu")
    skipped = predict(tiny_run, pictures, out=out, device="cpu", skip_bad=True)

    assert [*skipped] == [str(other)]
    assert sorted(p.name for p in out.glob("**/*.png")) == ["a.png", "b.png", "c.d.png"]


def test_the_result_follows_from_run_and_picture(
    tiny_run: Path, pictures: Path, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        predict(tiny_run, pictures / "a.png", out=tmp_path / name, device="cpu")

    first, second = (tmp_path / name / "a.png" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_nothing_is_written_where_a_mask_would_replace_a_picture(
    tiny_run: Path, pictures: Path
) -> None:
    before = {path: path.read_bytes() for path in pictures.glob("**/*.*")}

    with pytest.raises(DataError, match="exists already"):
        predict(tiny_run, pictures, out=pictures, device="cpu")

    assert {path: path.read_bytes() for path in pictures.glob("**/*.*")} == before


def test_a_run_without_its_checkpoint_is_refused(
    tiny_run: Path, pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("best.ckpt", "last.ckpt"))

    with pytest.raises(WeightsError, match=r"last\.ckpt: no such checkpoint"):
        predict(run, pictures, out=tmp_path / "masks", device="cpu")
