"""``agmm predict``: masks for pictures of any size."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from agmm.commands.common import keep_existing
from agmm.commands.parsing import build_parser, parse
from agmm.commands.runs import pick_device
from agmm.config import Checkpoint
from agmm.datasets.images import IMAGE_SUFFIXES, MAX_PIXELS, read_image
from agmm.datasets.listing import list_unread, walk_files
from agmm.datasets.mask_rows import written_in_rows
from agmm.datasets.masks import write_index_mask
from agmm.datasets.text import counted
from agmm.datasets.windows import opened_rows
from agmm.errors import DataError, TooLargeError
from agmm.files import written_atomically
from agmm.inference.predict import predict_classes, predict_probabilities
from agmm.progress import progress_bar
from agmm.shapes import MaskArray
from agmm.training.run import Run, load_run

EXAMPLES = """
agmm predict runs/first new-photos --out masks
agmm predict runs/first drone.tif --out masks --tile 512
agmm predict runs/first new-photos --out masks --scales 0.75 1.0 1.25 --flip --probabilities
"""


def predict(
    run: Path | str,
    images: Path | str,
    *,
    out: Path | str,
    probabilities: bool = False,
    checkpoint: Checkpoint = "best",
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    tile: int = 1024,
    overlap: float = 0.25,
    batch_size: int | None = None,
    device: str = "auto",
    skip_bad: bool = False,
) -> dict[str, str]:
    """Write a mask for every picture, at the picture's size, as a palette PNG.

    Pictures of more than 89 million pixels must be TIFFs. They are read, predicted and written in
    bands, with one scale and without their probabilities.

    Args:
        run: Run folder of a training.
        images: A picture, or a folder of pictures, searched with its subfolders.
        out: Folder for the masks; subfolders and names are those of the pictures.
        probabilities: Also write NAME.npy: float16, classes x height x width. Those of ``agmm`` are
            products over neighbours, and close to 0 or 1.
        checkpoint: ``best`` (highest validation mIoU) or ``last``.
        scales: Factors on the pictures' size to average over.
        flip: Average with the mirrored picture.
        tile: Side of the tiles that larger pictures are cut into, in pixels.
        overlap: Share of a tile that it has in common with the next, 0 to below 1.
        batch_size: Tiles that are predicted together; by default 4 on a GPU and 1 on a CPU.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        skip_bad: Skip, count and list unreadable pictures instead of stopping.

    Returns:
        The pictures that were skipped, by path, with the reason.

    Raises:
        AgmmError: If the run or a picture cannot be read, or with ``skip_bad`` none of them; if two
            pictures would get one mask, or a file that is to be written exists.
    """
    where = pick_device(device)
    targets = mask_paths(Path(images), Path(out))
    unread = _unread(Path(images), targets)
    if unread and not skip_bad:
        raise DataError(f"{next(iter(unread.values()))}{_how_to_go_on(0, out)}")
    if probabilities:
        for target in targets.values():
            keep_existing(target.with_suffix(".npy"))
    loaded = load_run(run, checkpoint=checkpoint, device=str(where))
    options: dict[str, Any] = {
        "device": where,
        "flip": flip,
        "tile": tile,
        "overlap": overlap,
        "batch_size": batch_size,
    }
    skipped: dict[str, str] = {}  # of those that are read
    with progress_bar("predicting", Console(stderr=True)) as progress:
        for number, (path, target) in enumerate(targets.items()):

            def done(share: float, before: int = number) -> None:
                progress(before + share, len(targets))

            try:
                if probabilities or len(scales) != 1:
                    _averaged(loaded, path, target, scales, options, probabilities=probabilities)
                else:
                    _streamed(loaded, path, target, scales[0], options, done)
            except DataError as error:
                if not skip_bad:
                    raise type(error)(f"{error}{_how_to_go_on(number, out)}") from error
                skipped[str(path)] = str(error)
            done(1.0)
    if len(skipped) == len(targets):
        first = next(iter(skipped.values()))
        raise DataError(
            f"{images}: no mask was written, as none of the {counted(len(targets), 'picture')} can"
            f" be read, such as {first}"
        )
    return unread | skipped


def _unread(images: Path, read: Iterable[Path]) -> dict[str, str]:
    """The pictures of a folder whose type is not read, by path, with what to do."""
    if images.is_file():
        return {}
    names = {picture.relative_to(images).with_suffix("").as_posix() for picture in read}
    return {
        str(file): f"{file}: is a picture of a type that is not read. Save it as JPEG or PNG."
        for file in list_unread(images, names)
    }


def _how_to_go_on(written: int, out: Path | str) -> str:
    """What to say of a picture that stops the command, after masks of others were written."""
    told = "\nTo leave such pictures out, give --skip-bad"
    if not written:
        return f"{told}."
    return (
        f"{told}; {counted(written, 'mask')} in {out} {'was' if written == 1 else 'were'} written"
        " before: remove what is there, or give another --out."
    )


def _streamed(
    run: Run,
    path: Path,
    target: Path,
    scale: float,
    options: dict[str, Any],
    done: Callable[[float], None],
) -> None:
    """Write the mask of a picture of any size while the picture is read."""
    with opened_rows(path) as picture:
        height, width = picture.height, picture.width
        with written_in_rows(target, height, width, run.classes) as write:
            written = 0

            def write_and_tell(rows: MaskArray) -> None:
                nonlocal written
                write(rows)
                written += len(rows)
                done(written / height)

            image_scale = run.config.image_scale
            predict_classes(
                run.model,
                picture,
                write_and_tell,
                objective=run.objective,
                image_scale=image_scale,
                scale=scale,
                **options,
            )


def _averaged(
    run: Run,
    path: Path,
    target: Path,
    scales: tuple[float, ...],
    options: dict[str, Any],
    *,
    probabilities: bool,
) -> None:
    """Write mask and probabilities of a picture whose probabilities can be held."""
    try:
        image = read_image(path)
    except TooLargeError as error:
        raise TooLargeError(
            f"{path}: larger than {MAX_PIXELS} pixels; neither the average over several --scales"
            " nor --probabilities can be had of such a picture. Give one scale and leave"
            " --probabilities out."
        ) from error
    image_scale = run.config.image_scale
    probs = predict_probabilities(
        run.model,
        image,
        objective=run.objective,
        image_scale=image_scale,
        scales=scales,
        **options,
    )
    write_index_mask(target, probs.argmax(0).numpy().astype(np.uint8), run.classes)
    if probabilities:
        with written_atomically(target.with_suffix(".npy")) as temporary:
            np.save(temporary, probs.numpy().astype(np.float16))


def mask_paths(images: Path, out: Path) -> dict[Path, Path]:
    """Every picture with the place of its mask.

    Raises:
        DataError: If there is no picture, or a whole data set; a mask would overwrite a file, two
            pictures would get the same mask, or a link leads to a folder above it.
    """
    if not images.exists():
        raise DataError(f"{images}: there is no such file or folder. Correct the path.")
    if out.is_file():
        raise DataError(f"--out {out}: is a file; name a folder")
    if images.is_file():
        found = {images: out / f"{images.stem}.png"}
    elif (images / "classes.txt").is_file() and (images / "images").is_dir():
        raise DataError(
            f"{images}: is a data set, of whose labels there would be masks too; give"
            f" {images / 'images'}"
        )
    else:
        found = {picture: out / f"{name}.png" for name, picture in walk_files(images)}
    if not found:
        raise DataError(f"{images}: no pictures ({' '.join(sorted(IMAGE_SUFFIXES))}) found there")
    owners: dict[Path, Path] = {}
    for picture, target in found.items():
        keep_existing(target)
        if target in owners:
            raise DataError(
                f"{picture} and {owners[target]}: both would be written to {target}; rename one"
            )
        owners[target] = picture
    return found


def main(name: str, arguments: Sequence[str]) -> None:
    """Run the command with the words of its command line."""
    values = parse(build_parser(name, predict, EXAMPLES), arguments)
    skipped = predict(**values)
    console = Console()
    for path, reason in skipped.items():
        console.print(f"skipped {path}: {reason}", markup=False, soft_wrap=True)
    total = f", {len(skipped)} skipped" if skipped else ""
    console.print(f"masks in {values['out']}{total}", markup=False, soft_wrap=True)
