"""Time and memory of AGMMLoss beside the published loss of 2023, cross-entropy and plain copies.

    uv run python benchmarks/loss_speed.py
    uv run python benchmarks/loss_speed.py --axis classes --only agmm cross-entropy
    uv run --group plots python benchmarks/loss_speed.py --plot

One point (8 pictures, 21 classes, 256 channels, 81x81 cells, logits at four times that), and one
axis varied at a time, with 2 pictures. Each point runs in a process of its own; what is compared
takes turns there, and with ``--rounds`` the points of an axis take turns too. The table gives
medians of the processor time of forward and backward pass in one thread, which other work on the
machine changes less than wall time, and ratios to AGMMLoss. Memory is the peak above the inputs,
gradients included.

The loss of 2023 is here as the released code has it: features enlarged to the size of the logits
and a tensor of pictures x classes x channels x pixels. That tensor does not fit for a whole batch:
it is measured on a band of rows of the first picture, and time and memory are multiplied by the
number of such bands in the batch; the band's own memory is in the results as well.

Results of other axes, points and devices stay in the file; a point that is measured again is
replaced as a whole. ``--plot`` draws the file's results beside it and measures nothing.
"""

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from agmm.mixture import AGMMLoss, absent_class, partial_cross_entropy

RESULTS = Path(__file__).parent / "results" / "loss_speed.json"
STRIDE = 4
PRESENT = 4
"""Classes of each picture."""
BAND = 2**28
"""Bytes of the tensor of classes x channels x pixels of a band."""


COMPILED = "agmm compiled"
"""By `torch.compile`, which takes a minute for each point and is measured only if asked for."""
OTHERS = (
    "features read twice, written once", "cross-entropy", "vectorised 2023", "looped 2023",
    COMPILED,
)  # fmt: skip

MEMORY = ("agmm", "cross-entropy", "vectorised 2023")


class Point(NamedTuple):
    """What is measured: sizes, and the type of the features and logits."""

    B: int = 8
    K: int = 21
    D: int = 256
    h: int = 81
    w: int = 81
    stride: int = STRIDE
    dtype: str = "float32"
    layout: str = "planes"


SMALL = Point(B=2)
AXES: dict[str, list[Point]] = {
    "point": [Point()],
    "batch": [Point(B=b) for b in (1, 2, 4, 8)],
    # 255 is the most that masks of bytes can name: 255 itself is "unlabelled".
    "classes": [SMALL._replace(K=k) for k in (2, 21, 81, 150, 171, 255)],
    "classes of the grid": [SMALL._replace(K=k, stride=1) for k in (2, 21, 81, 150, 171, 255)],
    "channels": [SMALL._replace(D=d) for d in (64, 256, 768)],
    "grid": [SMALL._replace(h=h, w=w) for h, w in ((60, 80), (81, 81), (128, 256), (256, 512))],
    "large": [Point(B=1, K=150, h=256, w=512, stride=stride) for stride in (1, 4)],
    "type": [SMALL._replace(dtype="bfloat16")],
    "layout": [SMALL._replace(K=k, layout="interleaved") for k in (21, 150)],
}
PLACES: dict[str, Callable[[Point], int]] = {
    "classes": lambda p: p.K, "classes of the grid": lambda p: p.K, "batch": lambda p: p.B,
    "channels": lambda p: p.D, "grid": lambda p: p.h * p.w,
}  # fmt: skip
"""The axes that are drawn, and where on them a point lies."""


class Batch(NamedTuple):
    """The arguments of an objective."""

    logits: Tensor
    features: Tensor
    seeds: Tensor
    candidates: Tensor
    images: Tensor


def make_batch(point: Point, device: str) -> Batch:
    """Random logits, features and pictures; strokes of four classes in each, tags as candidates."""
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, point.dtype)
    height, width = point.stride * point.h, point.stride * point.w
    logits = torch.randn(point.B, point.K, height, width, generator=generator).to(dtype)
    features = torch.randn(point.B, point.D, point.h, point.w, generator=generator).to(dtype)
    seeds = torch.full((point.B, height, width), 255)
    candidates = torch.zeros(point.B, point.K, dtype=torch.bool)
    length = max(1, height // 8)
    for b in range(point.B):
        for j in range(min(PRESENT, point.K)):
            k = (3 * b + j) % min(21, point.K)
            candidates[b, k] = True
            row = int(torch.randint(height - length + 1, (), generator=generator))
            column = int(torch.randint(width, (), generator=generator))
            seeds[b, row : row + length, column : column + 3] = k
    images = torch.randn(point.B, 3, height, width, generator=generator)
    if point.layout == "interleaved":
        logits = logits.contiguous(memory_format=torch.channels_last)
        features = features.contiguous(memory_format=torch.channels_last)
    return Batch(*(part.to(device) for part in (logits, features, seeds, candidates, images)))


def bands(point: Point) -> int:
    """Bands of rows of a picture that the loss of 2023 is run on, one row of cells at least."""
    whole = 4 * point.K * point.D * point.h * point.w * point.stride**2
    return min(point.h, -(-whole // BAND))


def published(batch: Batch, rows: int, *, loops: bool) -> Callable[[], None]:
    """The loss of 2023 on the first rows of the first picture.

    Args:
        batch: the batch; gradients are left in its logits and features.
        rows: rows of cells.
        loops: whether each class is treated alone, as a first version would.

    Returns:
        Forward and backward pass.
    """
    stride = batch.logits.shape[2] // batch.features.shape[2]
    pixels = (slice(1), slice(None), slice(rows * stride))
    logits = batch.logits.detach()[pixels].float().clone().requires_grad_()
    features = batch.features.detach()[:1, :, :rows].float().clone().requires_grad_()
    seeds = batch.seeds[:1, : rows * stride]

    def run() -> None:
        loss = partial_cross_entropy(logits, seeds)
        loss = loss + published_mixture(logits, features, seeds, loops=loops)
        valid = torch.ones_like(seeds.flatten(1), dtype=torch.bool)
        loss = loss + absent_class(logits.flatten(2), batch.candidates[:1, :, None], valid)
        loss.backward()

    return run


def published_mixture(logits: Tensor, features: Tensor, seeds: Tensor, *, loops: bool) -> Tensor:
    """The mixture's terms of 2023 in their plainest form; one picture, or several."""
    num_classes = logits.shape[1]
    features = functional.interpolate(
        features, logits.shape[2:], mode="bilinear", align_corners=True
    ).flatten(2)  # B D N
    labels = seeds.flatten(1)
    one_hot = torch.stack([labels == k for k in range(num_classes)], 1).float()  # B K N
    mass = one_hot.sum(2)
    means = one_hot @ features.mT / mass.clamp(min=1).unsqueeze(2)  # B K D
    if loops:
        images = []
        for b in range(len(features)):
            rows = [(features[b] - mean[:, None]).abs().mean(0) for mean in means[b]]
            images.append(torch.stack(rows))
        distances = torch.stack(images)
    else:
        distances = (features.unsqueeze(1) - means.unsqueeze(3)).abs().mean(2)  # of B K D N
    present = (mass > 0).unsqueeze(2)
    mixture = torch.exp(-distances.square()) * present
    probs = logits.flatten(2).softmax(1)
    number = present.sum().clamp(min=1) * labels.shape[1]
    network = functional.binary_cross_entropy(probs, mixture.clamp(0, 1), reduction="none")
    labelled = (labels != 255).unsqueeze(1)
    likelihood = -(one_hot * (mixture + 1e-6).log() + (1 - one_hot) * (1 - mixture + 1e-6).log())
    terms = (network * present).sum() / number + (likelihood * present * labelled).sum() / number
    apart = (means.unsqueeze(1) - means.unsqueeze(2)).abs().mean(3)
    pairs = present & present.mT
    return 0.5 * terms + (torch.exp(-apart.square()) * pairs.triu(1)).sum() / pairs.sum()


def runs(batch: Batch, rows: int) -> dict[str, Callable[[], None]]:
    """What is compared, by name."""
    objective = AGMMLoss(batch.logits.shape[1], batch.features.shape[1], warmup_steps=0)
    objective.to(batch.logits.device)
    compiled = cache(lambda: torch.compile(objective, fullgraph=True))  # if it is asked for

    def agmm() -> None:
        objective(*batch[:4], images=batch.images).loss.backward()

    def agmm_compiled() -> None:
        compiled()(*batch[:4], images=batch.images).loss.backward()

    def cross_entropy() -> None:
        partial_cross_entropy(batch.logits.float(), batch.seeds).backward()

    def floor() -> None:
        with torch.no_grad():
            batch.features.sum()
            batch.features.clone()

    return {
        "agmm": agmm,
        COMPILED: agmm_compiled,
        "vectorised 2023": published(batch, rows, loops=False),
        "looped 2023": published(batch, rows, loops=True),
        "cross-entropy": cross_entropy,
        "features read twice, written once": floor,
    }


def peak(function: Callable[[], None], device: str) -> float:
    """Peak memory of a call above what is there before, MiB; in a fresh process."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    function()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10


def measure(
    point: Point, device: str, repeats: int, only: list[str], memory_of: str
) -> dict[str, Any]:
    """Seconds of every repeat of what is asked for at a point, or the memory of one of them."""
    torch.set_num_threads(1)
    batch = make_batch(point, device)
    for part in batch[:2]:
        part.requires_grad_()
    number = bands(point)
    functions = {
        name: run for name, run in runs(batch, -(-point.h // number)).items() if name in only
    }
    if memory_of:
        small = point._replace(B=1, h=4, w=4)
        warm = make_batch(small, device)
        for part in warm[:2]:
            part.requires_grad_()
        runs(warm, 1)[memory_of]()  # what libraries load is no memory of ours
        return {memory_of: peak(functions[memory_of], device)}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            if "2023" in name and repeat != 1:
                continue  # once, after everything else is warm: they take long and vary little
            batch.logits.grad = batch.features.grad = None
            gc.collect()
            start = time.perf_counter() if device == "cuda" else time.process_time()
            function()
            if device == "cuda":
                torch.cuda.synchronize()
            end = time.perf_counter() if device == "cuda" else time.process_time()
            if repeat:  # the first one warms up
                scale = point.B * number if "2023" in name else 1
                seconds[name].append(scale * (end - start))
    return seconds


def in_child(
    point: Point, device: str, repeats: int, only: list[str], memory_of: str = ""
) -> dict[str, Any]:
    """`measure` in a process of its own."""
    request = json.dumps([point._asdict(), device, repeats, only, memory_of])
    command = [sys.executable, __file__, "--child", request]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown of the results."""
    heads = ("point", "agmm, s", "floor", "CE", "2023 vectorised", "2023 looped", "compiled")
    heads = (*heads, "agmm, MiB", "CE, MiB", "2023 vectorised, MiB")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        seconds, mib = row["seconds"], row["mib"]
        base = seconds["agmm"]
        cells = [f"{seconds[name] / base:.2f}" if name in seconds else "" for name in OTHERS]
        memory = [f"{mib[name]:.0f}" if name in mib else "" for name in MEMORY]
        name = ", ".join(f"{key} {value}" for key, value in row["point"].items()) or "base point"
        lines.append(f"| {name} | {base:.3f} | {' | '.join(cells)} | {' | '.join(memory)} |")
    return "\n".join(lines)


def curves(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, list[tuple[int, float]]]]]:
    """For each axis that was measured, what is drawn: places and values, by kind and objective.

    Only the points that the axis lists count, and of several devices the last.
    """
    drawn: dict[str, dict[str, dict[str, list[tuple[int, float]]]]] = {}
    for axis, place in PLACES.items():
        found = {Point(**r["point"]): r for r in rows if r["axis"] == axis}
        listed = [(place(point), found[point]) for point in AXES[axis] if point in found]
        if listed:
            drawn[axis] = {
                kind: {
                    name: [(x, row[kind][name]) for x, row in listed if name in row[kind]]
                    for name in ("agmm", "cross-entropy")
                }
                for kind in ("seconds", "mib")
            }
    return drawn


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Time and memory of AGMMLoss and cross-entropy against each axis, as small panels."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    drawn = curves(rows)
    labels = {"seconds": "processor seconds", "mib": "peak MiB above inputs"}
    shown = [k for k in labels if any(any(kinds[k].values()) for kinds in drawn.values())]
    size = (1.5 + 2.4 * len(drawn), 0.5 + 2 * len(shown))
    figure, panels = plt.subplots(len(shown), len(drawn), figsize=size, squeeze=False)
    for column, (axis, kinds) in enumerate(drawn.items()):
        for panel, kind in zip(panels[:, column], shown, strict=True):
            for name, points in kinds[kind].items():
                panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
            panel.set_ylim(bottom=0)
            panel.set_xlabel(axis)
    for panel, kind in zip(panels[:, 0], shown, strict=True):
        panel.set_ylabel(labels[kind])
    panels[0, 0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def memory(point: Point, device: str, only: list[str]) -> dict[str, float]:
    """Peak MiB of what is asked for, each in a process of its own."""
    mib: dict[str, float] = {}
    for name in MEMORY:
        if name in only:
            mib |= in_child(point, device, 0, only, name)
    if "vectorised 2023" in mib:
        mib["band of 2023"] = mib["vectorised 2023"]
        mib["vectorised 2023"] *= point.B * bands(point)
    return mib


def as_row(
    axis: str, point: Point, repeats: dict[str, list[float]], mib: dict[str, float], device: str
) -> dict[str, Any]:
    """A row of the results: the point as far as it differs from the base point, and medians."""
    return {
        "axis": axis,
        "point": {k: v for k, v in point._asdict().items() if v != Point._field_defaults[k]},
        "device": device,
        "torch": torch.__version__,
        "seconds": {name: statistics.median(values) for name, values in repeats.items()},
        "repeats": repeats,
        "mib": mib,
    }


def merged(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows with one in place of that of the same axis, point and device, or added."""
    key = ("axis", "point", "device")
    return [r for r in rows if any(r[k] != row[k] for k in key)] + [row]


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of results; none where there is no file."""
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    return rows


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write all rows, or leave the file as it is."""
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    unfinished.replace(file)


def measure_axis(axis: str, points: list[Point], arguments: argparse.Namespace) -> None:
    """Measure the points of an axis in turns; the results are written after each."""
    only = [name for name in ("agmm", *OTHERS) if name in {"agmm", *arguments.only}]
    device, repeats = arguments.device, arguments.repeats
    found: dict[Point, dict[str, list[float]]] = {point: {} for point in points}
    mib: dict[Point, dict[str, float]] = {}
    for _ in range(arguments.rounds):
        for point, seconds in found.items():
            if point not in mib:
                mib[point] = {} if arguments.no_memory else memory(point, device, only)
            for name, values in in_child(point, device, repeats, only).items():
                seconds[name] = [*seconds.get(name, []), *values]
            row = as_row(axis, point, seconds, mib[point], device)
            write_rows(arguments.results, merged(read_rows(arguments.results), row))
            print(table([row]).splitlines()[-1], flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["agmm", *OTHERS]
    parser.add_argument("--axis", action="append", choices=list(AXES), help="default: all")
    parser.add_argument("--point", nargs="*", default=[], help="changes to all points: B=4 D=64")
    usual = [name for name in names if name != COMPILED]
    parser.add_argument("--only", nargs="+", choices=names, default=usual)
    parser.add_argument("--repeats", type=int, default=5, help="in a process, and round")
    parser.add_argument("--rounds", type=int, default=1, help="through the points of an axis")
    parser.add_argument("--no-memory", action="store_true", help="measure time alone")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON; the plot lies beside")
    parser.add_argument("--plot", action="store_true", help="draw the results, measure nothing")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.child:
        values, *rest = json.loads(arguments.child)
        print(json.dumps(measure(Point(**values), *rest)))
        return
    if arguments.plot:
        rows = read_rows(arguments.results)
        if not curves(rows):
            parser.error(f"--plot: {arguments.results} has no points of {', '.join(PLACES)} yet")
        plot(rows, arguments.results.with_suffix(".svg"))
        return
    changes = dict(change.split("=") for change in arguments.point)
    changed = {k: v if k in ("dtype", "layout") else int(v) for k, v in changes.items()}
    for axis in arguments.axis or AXES:
        measure_axis(axis, [point._replace(**changed) for point in AXES[axis]], arguments)
    print(table(read_rows(arguments.results)))


if __name__ == "__main__":
    main()
