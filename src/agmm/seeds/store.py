"""Seeds on disk: made once for each picture, and made again only if something has changed."""

import dataclasses
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from agmm.datasets.classes import Classes
from agmm.datasets.images import opened_image, read_image
from agmm.datasets.masks import write_index_mask
from agmm.datasets.records import Record
from agmm.errors import DataError
from agmm.files import written_atomically
from agmm.labels.annotations import Annotation
from agmm.labels.forms import Form
from agmm.shapes import ImageArray, MaskArray

Progress = Callable[[int, int], None]
"""Called with how many pictures are done and how many there are."""

_KEY, _ARRAYS, _PICTURE = "agmm-key", "agmm-arrays", "agmm-picture"
"""Keywords in the PNG: what the seeds were made from; SHA-256 of the arrays' file, if any, and of
the picture's."""


@dataclass(frozen=True, eq=False)
class Seeds:
    """What a stage makes of one picture.

    Args:
        mask: (H, W), uint8, class index or 255 = unlabelled.
        arrays: What else is to be kept, such as activation maps, by name; none = no second file.
    """

    mask: MaskArray
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


Make = Callable[[ImageArray, Mapping[Form, Annotation], Sequence[MaskArray]], Seeds]
"""A stage: the picture, its labels and its guesses so far to seeds; the same for the same
arguments, on any thread."""


class Tally(NamedTuple):
    """What happened to how many pictures.

    Attributes:
        made: Their seeds were made.
        copied: Their seeds were taken from an earlier folder.
        kept: Their seeds were there already.
    """

    made: int
    copied: int
    kept: int


_Outcome = Literal["made", "copied", "kept"]


def make_seeds(
    records: Sequence[Record],
    folder: Path,
    make: Make,
    *,
    forms: Sequence[Form],
    fingerprint: str,
    classes: Classes,
    earlier: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Tally:
    """Make ``folder/NAME.png`` for every record that does not have it yet.

    A file is an index PNG that carries a key: a hash of the picture's file, the labels, the
    classes and ``fingerprint``. It is made anew if it is missing or damaged or its key is another.
    Files are written whole or not at all, so a stage that was stopped goes on where it was, and
    the files are the same to the byte. Arrays go to ``folder/maps/NAME.npz``, written before the
    PNG, which holds their hash.

    Args:
        records: The pictures.
        folder: Where the seeds go; made if it is missing.
        make: Makes the seeds of one picture.
        forms: The labels that ``make`` is given, where a picture has them.
        fingerprint: Everything else that decides the seeds: the stage's name and options, the
            hash of its weights.
        classes: The data set's classes.
        earlier: A folder of the same kind, whose files are copied where the key is the same.
        workers: Pictures at the same time, in threads; 1 = in the caller's thread, which is what
            a network on an accelerator needs; None = one per core.
        progress: Called after each picture with (done, total), in the caller's thread.

    Returns:
        How many were made, copied and kept.

    Raises:
        DataError: A picture whose seeds could not be made; the message names it. Seeds that were
            made before stay.
        OSError: Seeds could not be written, as on a full disk.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (3, 2)).save(root / "a.png")
        >>> again = partial(
        ...     make_seeds,
        ...     [Record("a", root / "a.png", {})],
        ...     root / "seeds",
        ...     lambda image, labels, guesses: Seeds(np.full(image.shape[:2], 255, np.uint8)),
        ...     forms=(),
        ...     fingerprint="nothing",
        ...     classes=Classes(("cat",), ((1, 2, 3),)),
        ... )
        >>> again(), again()
        (Tally(made=1, copied=0, kept=0), Tally(made=0, copied=0, kept=1))
    """
    job = partial(
        _ensure,
        folder=folder,
        make=make,
        forms=forms,
        fingerprint=fingerprint,
        classes=classes,
        earlier=earlier,
    )
    outcomes: Counter[_Outcome] = Counter()
    for outcome in _spread(job, records, workers or os.cpu_count() or 1):
        outcomes[outcome] += 1
        if progress is not None:
            progress(outcomes.total(), len(records))
    return Tally(outcomes["made"], outcomes["copied"], outcomes["kept"])


def seed_file(folder: Path, name: str) -> Path:
    """Tell where the seeds of a record lie.

    Args:
        folder: The folder given to `make_seeds`.
        name: The record's name.

    Returns:
        The path of the PNG; not with ``with_suffix``, as a name may have dots.

    Example:
        >>> seed_file(Path("seeds"), "day1/img.01").as_posix()
        'seeds/day1/img.01.png'
    """
    return folder / f"{name}.png"


def array_file(folder: Path, name: str) -> Path:
    """Tell where the arrays beside the seeds of a record lie, if the stage keeps any.

    Args:
        folder: The folder given to `make_seeds`.
        name: The record's name.

    Returns:
        The path of the npz.

    Example:
        >>> array_file(Path("seeds"), "a").as_posix()
        'seeds/maps/a.npz'
    """
    return folder / "maps" / f"{name}.npz"


def are_of_picture(folder: Path, record: Record) -> bool:
    """Tell whether the seeds under a record's name were made from its picture, to the byte.

    Args:
        folder: The folder given to `make_seeds`.
        record: The record; a picture of another split may have the same name.

    Returns:
        False for those of another picture; True too where that was not noted yet.

    Raises:
        DataError: Seeds that are missing or no picture.
    """
    found = _hash_of(record.image)
    with opened_image(seed_file(folder, record.name)) as image:
        noted: object = image.info.get(_PICTURE, found)
    return noted == found


def _spread(
    job: Callable[[Record], _Outcome], records: Sequence[Record], workers: int
) -> Iterator[_Outcome]:
    if workers == 1:
        yield from map(job, records)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(job, records)
    finally:
        # After an error or Ctrl-C only the pictures in work are finished.
        pool.shutdown(cancel_futures=True)


def _ensure(
    record: Record,
    *,
    folder: Path,
    make: Make,
    forms: Sequence[Form],
    fingerprint: str,
    classes: Classes,
    earlier: Path | None,
) -> _Outcome:
    try:
        labels = {form: record.labels[form]() for form in forms if form in record.labels}
        guesses = [guess() for guess in record.guesses]
        key = _key(record.image.read_bytes(), labels, guesses, fingerprint, classes)
        if _is_current(folder, record.name, key):
            return "kept"
        if earlier is not None and _is_current(earlier, record.name, key):
            _copy(earlier, folder, record.name)
            return "copied"
        image = read_image(record.image)
        seeds = make(image, labels, guesses)
        assert seeds.mask.shape == image.shape[:2], f"seeds of {seeds.mask.shape} pixels"
    except Exception as error:
        if isinstance(error, DataError) and str(record.image) in str(error):
            raise
        raise DataError(
            f"{record.image}: its seeds could not be made ({type(error).__name__}: {error})."
            " Correct the picture or its labels, or leave it out."
        ) from error
    _write(folder, record, seeds, classes, key)  # a full disk is no fault of the picture
    return "made"


def _key(
    picture: bytes,
    labels: Mapping[Form, Annotation],
    guesses: Sequence[MaskArray],
    fingerprint: str,
    classes: Classes,
) -> str:
    def parts() -> Iterable[bytes]:
        yield picture
        yield repr((fingerprint, classes.names, classes.colors)).encode()
        for form, annotation in labels.items():
            for item in dataclasses.fields(annotation):
                values: np.ndarray = getattr(annotation, item.name)
                yield repr((form, item.name, values.dtype.str, values.shape)).encode()
                yield values.tobytes()
        for guess in guesses:
            yield repr(("guess", guess.dtype.str, guess.shape)).encode()
            yield guess.tobytes()

    digest = hashlib.sha256()
    for part in parts():
        # Its length first, so that no two lists of parts are the same bytes.
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _is_current(folder: Path, name: str, key: str) -> bool:
    path = seed_file(folder, name)
    try:
        with opened_image(path) as image:
            image.load()
            notes = dict(image.info)
    except DataError:
        return False
    return notes.get(_KEY) == key and notes.get(_ARRAYS) == _hash_of(array_file(folder, name))


def _hash_of(path: Path) -> str:
    """SHA-256 of a file; empty if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _copy(source: Path, target: Path, name: str) -> None:
    # The PNG last: it says that both are there.
    for file_of in (array_file, seed_file):
        if file_of(source, name).is_file():
            with written_atomically(file_of(target, name)) as temporary:
                shutil.copyfile(file_of(source, name), temporary)
        else:
            file_of(target, name).unlink(missing_ok=True)


def _write(folder: Path, record: Record, seeds: Seeds, classes: Classes, key: str) -> None:
    arrays = array_file(folder, record.name)
    if seeds.arrays:
        with written_atomically(arrays) as temporary:
            # mypy takes the names for those of NumPy's own options.
            np.savez_compressed(temporary, **seeds.arrays)  # type: ignore[arg-type]
    else:
        arrays.unlink(missing_ok=True)
    notes = {_KEY: key, _ARRAYS: _hash_of(arrays), _PICTURE: _hash_of(record.image)}
    write_index_mask(seed_file(folder, record.name), seeds.mask, classes, text=notes)
