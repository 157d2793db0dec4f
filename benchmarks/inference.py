"""Pictures per second and peak memory of prediction: whole, in tiles, and of a very large picture.

    uv run python benchmarks/inference.py FOLDER
    uv run python benchmarks/inference.py FOLDER --only large --large 1100 20000 --encoder tiny

The first rows predict one picture of noise again and again: whole, then in tiles with several
numbers of tiles at once. For the last a tiled TIFF is written into the folder, if it is not there
yet, and predicted as `agmm predict` does it, while it is read and with the mask written beside it.
Every row runs in a process of its own; memory is the most that it had, above what it had when the
network was loaded and had seen a picture of 64x64. Networks have random weights and 21 classes;
``tiny`` is one 1x1 convolution, so that what remains is reading, blending and writing.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from agmm.datasets.classes import Classes, voc_colors
from agmm.datasets.mask_rows import written_in_rows
from agmm.datasets.windows import opened_rows, whole_picture
from agmm.files import write_text
from agmm.inference.predict import predict_classes, predict_probabilities
from agmm.models.segmenter import Segmenter, SegmenterOutput, build_segmenter
from agmm.training.hardware import cpu_name

RESULTS = Path(__file__).parent / "results" / "inference.json"
KEY = ("about", "picture", "encoder", "tile", "batch")
"""What a row is the result of; measured again, it takes the place of the earlier one."""
K = 21
CLASSES = Classes(tuple(f"class {k}" for k in range(K)), tuple(voc_colors(K)))
BATCHES = (1, 2, 4, 8)
BLOCK = 512
"""Side of the tiles of the large TIFF."""


class Tiny(Segmenter):
    """One 1x1 convolution of the colours."""

    def __init__(self) -> None:
        head = nn.Conv2d(3, K, 1)
        super().__init__(nn.Identity(), nn.Identity(), head, num_classes=K, pad_to=1)

    def forward(self, images: torch.Tensor) -> SegmenterOutput:
        """Logits, and the pictures as features."""
        return SegmenterOutput(self.head(images), images)


def make_model(encoder: str, decoder: str, device: str) -> Segmenter:
    """The network, after its first picture: what libraries load is no memory of the prediction."""
    torch.manual_seed(0)
    model = Tiny() if encoder == "tiny" else build_segmenter(decoder, encoder, "none", K)
    model.to(device).eval()
    predict_probabilities(model, np.zeros((64, 64, 3), np.uint8), device=device)
    return model


def write_large(path: Path, height: int, width: int) -> None:
    """Squares of random colours in a tiled TIFF, a row of its tiles at a time."""
    import rasterio
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    kind: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "count": 3, "photometric": "rgb"}
    tiles = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", height=height, width=width, **kind, **tiles) as file:
            for top in range(0, height, BLOCK):
                rows = min(BLOCK, height - top)
                colors = rng.integers(0, 256, (3, BLOCK // 16, -(-width // 16)), np.uint8)
                squares = colors.repeat(16, axis=1).repeat(16, axis=2)[:, :rows, :width]
                file.write(squares, window=Window(0, top, width, rows))


def megabytes(what: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (the most so far) of this process, Linux only."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def measured(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median times of a call, and the peak of the memory above what is there before."""
    before = megabytes("VmRSS")
    wall, cpu = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return {
        "seconds": statistics.median(wall),
        "cpu_seconds": statistics.median(cpu),
        "mb": megabytes("VmHWM") - before,
        "mb_of_gpu": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0,
    }


def measure(arguments: argparse.Namespace, tile: int | None, batch: int, large: str) -> Any:
    """One row of a table, in this process."""
    torch.set_num_threads(arguments.threads)
    model = make_model(arguments.encoder, arguments.decoder, arguments.device)
    options: dict[str, Any] = {"device": arguments.device, "tile": tile, "batch_size": batch}

    def predict_large() -> None:
        with (
            opened_rows(Path(large)) as picture,
            written_in_rows(
                Path(large).with_suffix(".png"), picture.height, picture.width, CLASSES
            ) as write,
        ):
            predict_classes(model, picture, write, **options)

    if large:
        return measured(predict_large, 1)
    side = arguments.side
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)

    def predict_small() -> None:
        predict_classes(model, whole_picture(image), lambda _: None, **options)

    return measured(predict_small, arguments.repeats)


def in_child(arguments: argparse.Namespace, tile: int | None, batch: int, large: str) -> Any:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:]]
    request = json.dumps([tile, batch, large])
    done = subprocess.run(
        [*command, "--child", request], stdout=subprocess.PIPE, text=True, check=True
    )
    row = {"tile": tile, "batch": batch, "encoder": arguments.encoder}
    return {**row, **json.loads(done.stdout.splitlines()[-1])}


def as_row(row: dict[str, Any], size: str) -> str:
    """A line of Markdown."""
    tile = "whole" if row["tile"] is None else row["tile"]
    return (
        f"| {size} | `{row['encoder']}` | {tile} | {row['batch']} | {1 / row['seconds']:.3g} |"
        f" {row['cpu_seconds']:.1f} | {row['mb']:.0f} |"
    )


def with_rows(file: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a results file, the new ones in place of those of the same cases."""
    earlier = json.loads(file.read_text()) if file.is_file() else []
    new = {tuple(row[name] for name in KEY) for row in rows}
    kept = [row for row in earlier if tuple(row[name] for name in KEY) not in new]
    return [*kept, *rows]


def main() -> None:
    """Measure, print the tables and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["small", "large"], help="default: both")
    parser.add_argument("--encoder", default="mobilenetv2_100", help="a timm name, or tiny")
    parser.add_argument("--decoder", default="fpn")
    parser.add_argument("--side", type=int, default=768, help="of the small picture")
    parser.add_argument("--tile", type=int, default=384, help="of the small picture")
    parser.add_argument("--large", type=int, nargs=2, default=(20_000, 20_000), metavar=("H", "W"))
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of all rows")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments, *json.loads(arguments.child))))
        return
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else cpu_name()
    about = f"{where}, {arguments.threads} threads, torch {torch.__version__}"
    print(f"{about}, medians of {arguments.repeats}; the large picture once")
    print("| picture | encoder | tile | at once | pictures/s | CPU s | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    cases: list[tuple[str, int | None, int, str]] = []
    if arguments.only != "large":
        size = f"{arguments.side}x{arguments.side}"
        cases += [(size, None, 1, "")]
        cases += [(size, arguments.tile, batch, "") for batch in arguments.batches]
    if arguments.only != "small":
        height, width = arguments.large
        large = arguments.folder / f"{height}x{width}.tif"
        if not large.is_file():
            arguments.folder.mkdir(parents=True, exist_ok=True)
            write_large(large, height, width)
        cases += [(f"{height}x{width}", 1024, batch, str(large)) for batch in arguments.batches]
    for size, tile, batch, large_path in cases:
        row = in_child(arguments, tile, batch, large_path)
        print(as_row(row, size), flush=True)
        rows.append({"about": about, "picture": size, **row})
    write_text(arguments.results, json.dumps(with_rows(arguments.results, rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
