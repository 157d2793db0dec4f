"""``agmm simulate``: weak labels from dense masks."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from agmm.commands.common import check_forms, require_empty, usable_dataset
from agmm.commands.parsing import build_parser, parse
from agmm.config import Format
from agmm.datasets.images import read_image
from agmm.datasets.places import split_name
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Dataset, Record
from agmm.datasets.simulated import Tally, write_simulated_dataset
from agmm.errors import ConfigError
from agmm.labels.annotations import Annotation
from agmm.labels.forms import Form
from agmm.labels.protocol import Protocol
from agmm.progress import progress_bar
from agmm.report.figures import legend, panel, sheet, write_png
from agmm.report.labels import draw_annotation

EXAMPLES = """
agmm simulate photos --form scribbles --out photos-scribbles
agmm simulate photos --form tags,points,boxes --out photos-weak --seed 1
agmm simulate cityscapes --form points --clicks-per-class 20 --out clicks-20
agmm simulate cityscapes --form blocks --block-share 0.1 --block-size 64 --out blocks-10
agmm simulate photos --form points,boxes --wrong-clicks 0.1 --box-jitter 0.1 --out photos-noisy
"""
PICTURES_SHOWN = 4


def simulate(
    data: Path | str,
    *,
    out: Path | str,
    form: tuple[Form, ...],
    format: Format = "auto",  # noqa: A002 - the option is called so
    mapping: Path | None = None,
    split: str = "train",
    seed: int = 0,
    min_pixels: int = 32,
    clicks_per_class: int | None = None,
    wrong_clicks: float = 0.0,
    stroke_width: int = 3,
    block_share: float = 0.1,
    block_size: int = 40,
    box_jitter: float = 0.0,
    link: bool = False,
    workers: int | None = None,
    skip_bad: bool = False,
) -> dict[str, Tally]:
    """Write a copy of a data set whose training pictures have weak labels instead of dense masks.

    The pictures of the other splits keep their masks, so that the copy trains and validates.
    ``overview.png`` in it shows some pictures with their labels.

    Args:
        data: Data set with dense masks.
        out: Folder to write to; it must be missing or empty.
        form: Label forms to write, comma-separated; ``dense`` keeps the masks beside the others.
        format: Layout of the data set; ``auto`` recognises it.
        mapping: YAML file with classes to rename, merge or drop: lines ``old: new``, ``old: null``.
        split: Split that gets the weak labels.
        seed: Seed of everything that is drawn; each picture's labels follow from it and its name.
        min_pixels: Smaller connected pieces get no click, stroke, box or place in a block; the
            largest of a class always does.
        clicks_per_class: Clicks on each class of a picture, anywhere on it; without it one click
            well inside each connected piece.
        wrong_clicks: Probability that a click lands beside its object, on another class; 0 to 1.
        stroke_width: Thickness of the strokes in pixels.
        block_share: Share of the labelled pixels that lie in blocks, above 0 to 1.
        block_size: Height and width of a block in pixels.
        box_jitter: Largest move of a box's side, in or out, as part of its width or height; 0 to
            below 0.5.
        link: Hard-link the pictures instead of copying them: takes no space, but a picture that
            is changed in one folder is changed in the other.
        workers: Processes; without it one per core.
        skip_bad: Leave out, count and list unusable pictures instead of stopping.

    Returns:
        For each split what was written.

    Raises:
        AgmmError: If an option is out of range, the data cannot be read, or ``out`` is not empty.
    """
    check_forms("--form", form)
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers: expected at least 1, got {workers}")
    protocol = Protocol(
        seed=seed,
        min_pixels=min_pixels,
        clicks_per_class=clicks_per_class,
        wrong_clicks=wrong_clicks,
        stroke_width=stroke_width,
        block_share=block_share,
        block_size=block_size,
        box_jitter=box_jitter,
    )
    if Path(out).resolve().is_relative_to(Path(data).resolve()):
        raise ConfigError(f"--out {out}: lies in the data set itself; give another folder")
    console = Console(stderr=True)
    require_empty(out)
    listed = read_dataset(data, format=format, mapping=mapping)
    splits = _splits_with_masks(listed, split, console)
    dataset = usable_dataset(
        listed, dict.fromkeys(splits, ("dense",)), skip_bad=skip_bad, console=console
    )
    forms = {name: form if name == split else ("dense",) for name in splits}
    with progress_bar("simulating labels", console) as progress:
        tallies = write_simulated_dataset(
            dataset, Path(out), forms, protocol, link=link, workers=workers, progress=progress
        )
    write_overview(Path(out) / "overview.png", dataset.split(split), read_dataset(out), split)
    return tallies


def _splits_with_masks(dataset: Dataset, split: str, console: Console) -> tuple[str, ...]:
    """The split to simulate, and the others that have masks to validate on."""
    others = {name: records for name, records in dataset.splits.items() if name != split}
    masked = [name for name, rs in others.items() if any("dense" in r.labels for r in rs)]
    for name in sorted(others.keys() - masked):
        console.print(f"{name}: has no dense masks, left out", markup=False, soft_wrap=True)
    return (split, *masked)


def write_overview(path: Path, records: Sequence[Record], written: Dataset, split: str) -> None:
    """One PNG: picture, mask and the labels of each form, for some pictures of the split.

    Args:
        path: The file to write.
        records: The pictures with their masks.
        written: The data set with their weak labels, which are read from it.
        split: Where they come from; the copy is read with its usual name, see `split_name`.
    """
    classes = written.classes
    weak = {record.name: record for record in written.split(split_name(split) or split)}
    shown = [records[i] for i in range(0, len(records), -(-len(records) // PICTURES_SHOWN))]
    rows = []
    for record in shown:
        image = read_image(record.image)
        labels: dict[str, Callable[[], Annotation]] = {"mask": record.labels["dense"]}
        labels |= {form: read for form, read in weak[record.name].labels.items() if form != "dense"}
        columns = [("picture", image)]
        columns += [
            (what, draw_annotation(image, read(), classes)) for what, read in labels.items()
        ]
        is_last = record is shown[-1]
        rows.append(panel([(caption if is_last else "", cell) for caption, cell in columns]))
    width = max(row.shape[1] for row in rows)
    write_png(path, sheet([*rows, legend(classes.names, classes.colors, width=width)]))


def main(name: str, arguments: Sequence[str]) -> None:
    """Run the command with the words of its command line."""
    values = parse(build_parser(name, simulate, EXAMPLES), arguments)
    tallies = simulate(**values)
    console = Console()
    for split, tally in tallies.items():
        found = "; ".join(_told(form, count, tally.pixels) for form, count in tally.labels.items())
        console.print(
            f"{split}: {tally.pictures:,} pictures; {found}", markup=False, soft_wrap=True
        )
    out = values["out"]
    console.print(f"{out}, look at {out}/overview.png", markup=False, soft_wrap=True)


def _told(form: Form, count: int, pixels: int) -> str:
    if form in ("points", "boxes", "tags"):
        return f"{count:,} {form}"
    return f"{form} on {count / pixels:.1%} of the pixels"
