"""Seeds are made once, whatever happens in between, and made again when something changed."""

import errno
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agmm.datasets.classes import Classes
from agmm.datasets.masks import read_index_mask, write_index_mask
from agmm.datasets.records import Record
from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Boxes
from agmm.labels.forms import Form
from agmm.seeds.store import (
    Make,
    Seeds,
    Tally,
    are_of_picture,
    array_file,
    make_seeds,
    seed_file,
)
from agmm.shapes import MaskArray

CLASSES = Classes(("background", "cat", "dog"), ((0, 0, 0), (10, 20, 30), (200, 100, 0)))
NAMES = ("a", "b", "day/c", "day/d.1", "e", "f")


def boxes(x: int) -> Boxes:
    return Boxes(np.array([[x, 1, x + 3, 5]]), np.array([1], np.uint8))


def labelled(name: str, image: Path, x: int) -> Record:
    return Record(name, image, {"boxes": partial(boxes, x)})


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    rng = np.random.default_rng(0)
    found = []
    for index, name in enumerate(NAMES):
        path = tmp_path / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 9, 3)).astype(np.uint8)).save(path)
        found.append(labelled(name, path, index))
    return found


class Stage:
    """A stage that counts its calls, and fails or is stopped at a call if told so."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.calls, self.fail_at, self.error = 0, fail_at, error
        self.lock = threading.Lock()

    def __call__(
        self, image: np.ndarray, labels: Mapping[Form, Annotation], guesses: Sequence[MaskArray]
    ) -> Seeds:
        del guesses
        with self.lock:
            self.calls += 1
            if self.calls == self.fail_at and self.error is not None:
                raise self.error
        box = labels["boxes"]
        assert isinstance(box, Boxes)
        xmin, ymin, xmax, ymax = box.xyxy[0]
        mask = np.full(image.shape[:2], 255, np.uint8)
        mask[ymin:ymax, xmin:xmax] = box.classes[0]
        maps = (image[None, :, :, 0] / 255).astype(np.float16)
        return Seeds(mask, {"maps": maps, "classes": box.classes})


def run(
    records: list[Record],
    folder: Path,
    stage: Make,
    *,
    fingerprint: str = "test",
    classes: Classes = CLASSES,
    earlier: Path | None = None,
    workers: int | None = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Tally:
    return make_seeds(
        records,
        folder,
        stage,
        forms=("boxes",),
        fingerprint=fingerprint,
        classes=classes,
        earlier=earlier,
        workers=workers,
        progress=progress,
    )


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_is_written(records: list[Record], tmp_path: Path) -> None:
    tally = run(records, tmp_path / "seeds", Stage())

    assert tally == Tally(made=6, copied=0, kept=0)
    expected = {file for name in NAMES for file in (f"{name}.png", f"maps/{name}.npz")}
    assert set(contents(tmp_path / "seeds")) == expected
    mask = read_index_mask(seed_file(tmp_path / "seeds", "day/d.1"), CLASSES)
    truth = np.full((6, 9), 255)
    truth[1:5, 3:6] = 1
    np.testing.assert_array_equal(mask, truth)
    with np.load(array_file(tmp_path / "seeds", "day/d.1"), allow_pickle=False) as arrays:
        assert arrays["maps"].shape == (1, 6, 9)
        assert arrays["classes"].tolist() == [1]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt(), ValueError("no luck")])
def test_a_stopped_stage_goes_on_without_work_twice(
    records: list[Record], tmp_path: Path, stopped_by: BaseException, workers: int
) -> None:
    run(records, tmp_path / "straight", Stage())
    first, second = Stage(4, stopped_by), Stage()
    expected = KeyboardInterrupt if isinstance(stopped_by, KeyboardInterrupt) else DataError
    with pytest.raises(expected):
        run(records, tmp_path / "seeds", first, workers=workers)
    before = len(list((tmp_path / "seeds").rglob("*.png")))

    tally = run(records, tmp_path / "seeds", second, workers=workers)

    assert before == first.calls - 1
    assert second.calls == tally.made == len(NAMES) - before
    assert tally.kept == before
    assert contents(tmp_path / "seeds") == contents(tmp_path / "straight")


def test_ctrl_c_ends_it_before_all_pictures_are_done(records: list[Record], tmp_path: Path) -> None:
    # As the signal does: the exception comes up in the caller's thread.
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt(done, total)

    gate = threading.Semaphore(2)

    def slow(
        image: np.ndarray, labels: Mapping[Form, Annotation], guesses: Sequence[MaskArray]
    ) -> Seeds:
        gate.acquire(timeout=0.5)
        return Stage()(image, labels, guesses)

    with pytest.raises(KeyboardInterrupt):
        run(records, tmp_path / "seeds", slow, workers=2, progress=interrupt)

    assert len(list((tmp_path / "seeds").rglob("*.png"))) < len(NAMES)
    assert not list((tmp_path / "seeds").rglob(".*"))


def test_killed_between_its_two_files_a_picture_is_made_again(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(records, tmp_path / "straight", Stage())
    with monkeypatch.context() as patch:
        patch.setattr("agmm.seeds.store.write_index_mask", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(records, tmp_path / "seeds", Stage())
    assert set(contents(tmp_path / "seeds")) == {"maps/a.npz"}

    stage = Stage()
    run(records, tmp_path / "seeds", stage)

    assert stage.calls == len(NAMES)
    assert contents(tmp_path / "seeds") == contents(tmp_path / "straight")


def _other_picture(records: list[Record], _: Path) -> None:
    Image.new("RGB", (9, 6), (1, 2, 3)).save(records[1].image)


def _other_label(records: list[Record], _: Path) -> None:
    records[1] = labelled("b", records[1].image, 5)


def _cut_png(_: list[Record], folder: Path) -> None:
    path = seed_file(folder, "b")
    path.write_bytes(path.read_bytes()[:-30])


def _foreign_png(_: list[Record], folder: Path) -> None:
    write_index_mask(seed_file(folder, "b"), np.zeros((6, 9), np.uint8), CLASSES)


def _no_png(_: list[Record], folder: Path) -> None:
    seed_file(folder, "b").unlink()


def _no_arrays(_: list[Record], folder: Path) -> None:
    array_file(folder, "b").unlink()


def _cut_arrays(_: list[Record], folder: Path) -> None:
    array_file(folder, "b").write_bytes(b"half")


@pytest.mark.parametrize(
    "change",
    [
        _other_picture,
        _other_label,
        _cut_png,
        _foreign_png,
        _no_png,
        _no_arrays,
        _cut_arrays,
    ],
)
def test_only_what_is_stale_or_damaged_is_made_again(
    records: list[Record], tmp_path: Path, change: Callable[[list[Record], Path], None]
) -> None:
    run(records, tmp_path / "seeds", Stage())
    change(records, tmp_path / "seeds")

    assert run(records, tmp_path / "seeds", Stage()) == Tally(made=1, copied=0, kept=5)
    assert run(records, tmp_path / "seeds", Stage()) == Tally(made=0, copied=0, kept=6)


def test_other_options_or_classes_make_all_again(records: list[Record], tmp_path: Path) -> None:
    renamed = Classes(("background", "cat", "cow"), CLASSES.colors)
    run(records, tmp_path / "seeds", Stage())

    assert run(records, tmp_path / "seeds", Stage(), fingerprint="other").made == 6
    assert run(records, tmp_path / "seeds", Stage(), classes=renamed).made == 6


def test_a_stage_without_arrays_takes_the_old_ones_away(
    records: list[Record], tmp_path: Path
) -> None:
    def plain(
        image: np.ndarray, labels: Mapping[Form, Annotation], guesses: Sequence[MaskArray]
    ) -> Seeds:
        return Seeds(Stage()(image, labels, guesses).mask)

    run(records, tmp_path / "seeds", Stage())
    run(records, tmp_path / "seeds", plain, fingerprint="plain")

    assert not list((tmp_path / "seeds").rglob("*.npz"))
    assert run(records, tmp_path / "seeds", plain, fingerprint="plain").kept == 6


def test_an_earlier_runs_seeds_are_taken_where_they_fit(
    records: list[Record], tmp_path: Path
) -> None:
    run(records, tmp_path / "earlier", Stage())
    records[1] = labelled("b", records[1].image, 5)
    run(records, tmp_path / "straight", Stage())
    stage = Stage()

    tally = run(records, tmp_path / "seeds", stage, earlier=tmp_path / "earlier")

    assert tally == Tally(made=1, copied=5, kept=0)
    assert stage.calls == 1
    assert contents(tmp_path / "seeds") == contents(tmp_path / "straight")


def test_a_copy_leaves_no_stale_arrays(records: list[Record], tmp_path: Path) -> None:
    def plain(
        image: np.ndarray, labels: Mapping[Form, Annotation], guesses: Sequence[MaskArray]
    ) -> Seeds:
        return Seeds(Stage()(image, labels, guesses).mask)

    run(records, tmp_path / "earlier", plain, fingerprint="plain")
    run(records, tmp_path / "seeds", Stage())

    again = partial(run, records, tmp_path / "seeds", plain, fingerprint="plain")
    assert again(earlier=tmp_path / "earlier").copied == 6
    assert contents(tmp_path / "seeds") == contents(tmp_path / "earlier")


@pytest.mark.parametrize("workers", [2, None])
def test_any_number_of_workers_gives_the_same_files(
    records: list[Record], tmp_path: Path, workers: int | None
) -> None:
    run(records, tmp_path / "one", Stage())
    run(records, tmp_path / "many", Stage(), workers=workers)

    assert contents(tmp_path / "many") == contents(tmp_path / "one")


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_comes_in_order_and_in_the_callers_thread(
    records: list[Record], tmp_path: Path, workers: int
) -> None:
    seen: list[tuple[int, int, bool]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total, threading.current_thread() is threading.main_thread()))

    run(records, tmp_path / "seeds", Stage(), workers=workers, progress=progress)

    assert seen == [(done, 6, True) for done in range(1, 7)]


def test_an_error_names_the_picture_once(records: list[Record], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images/b\.png: its seeds .* \(ValueError: no luck\)"):
        run(records, tmp_path / "seeds", Stage(2, ValueError("no luck")))

    records[2].image.write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        run(records, tmp_path / "seeds", Stage())
    assert str(caught.value).startswith(f"{records[2].image}: cannot be read as a picture")


def test_a_full_disk_is_not_blamed_on_the_picture(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("agmm.seeds.store.write_index_mask", full)
    with pytest.raises(OSError, match="No space left on device"):
        run(records, tmp_path / "seeds", Stage())


def test_seeds_of_another_size_are_a_mistake_of_the_stage(
    records: list[Record], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"AssertionError: seeds of \(1, 1\) pixels"):
        run(records, tmp_path / "seeds", lambda *_: Seeds(np.zeros((1, 1), np.uint8)))


def test_guesses_reach_the_stage_and_other_guesses_make_other_seeds(
    records: list[Record], tmp_path: Path
) -> None:
    def guessed(value: int) -> list[Record]:
        mask = np.full((6, 9), value, np.uint8)
        return [replace(record, guesses=(lambda: mask,)) for record in records[:1]]

    def copied(
        image: np.ndarray, labels: Mapping[Form, Annotation], guesses: Sequence[MaskArray]
    ) -> Seeds:
        del image, labels
        return Seeds(guesses[0])

    assert run(guessed(0), tmp_path, copied).made == 1
    assert run(guessed(0), tmp_path, copied).kept == 1
    assert run(guessed(1), tmp_path, copied).made == 1
    assert (read_index_mask(seed_file(tmp_path, records[0].name), CLASSES) == 1).all()


def test_seeds_say_which_picture_they_are_of(records: list[Record], tmp_path: Path) -> None:
    folder, (one, other, before, *_) = tmp_path / "seeds", records
    run(records, folder, Stage())
    mask = read_index_mask(seed_file(folder, before.name), CLASSES)
    write_index_mask(seed_file(folder, before.name), mask, CLASSES)  # as it was written before

    assert are_of_picture(folder, one)
    assert not are_of_picture(folder, replace(one, image=other.image))
    assert are_of_picture(folder, replace(before, image=other.image))
