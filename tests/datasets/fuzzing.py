"""Damaged files through every reader of data sets: nothing but our errors may come out.

    uv run python -m tests.datasets.fuzzing --minutes 30 --samples DATA

The small data sets of `tests.datasets.samples` are damaged: bytes cut, replaced and doubled, values
of JSON and XML exchanged for odd ones, files removed, emptied, renamed and exchanged. Each damaged
set is listed and decoded as ``agmm check`` does it. Whatever is raised but `AgmmError` is a defect,
and so is an input that takes longer than ``SLOW`` seconds. ``--samples`` adds the data sets below a
folder, for each of its folders that is recognised.

It ends with 1 if there is a defect, and keeps the file of each in ``--keep``.
"""

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agmm.datasets.inspection import inspect
from agmm.datasets.mapping import mapped, read_mapping
from agmm.datasets.reader import read_dataset
from agmm.errors import AgmmError
from agmm.labels.forms import FORMS
from tests.datasets.samples import Sample, tiny_samples

SLOW = 5.0
"""Seconds that one small input may take."""

TOKENS = (
    *(b"0", b"-1", b"1e309", b"NaN", b"null", b"[]", b"{}", b'""', b"true", b"2147483648", b"1.5"),
    *(b"../", b"<a/>", b'"', b">", b"<", b"\x00", b"\xff", b";", b",", b"\n", b"\r", b"&x;", b"#"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"9" * 400, b"9" * 5000, b"[" * 3000, b"/etc/passwd", b"&#0;"),
    *(b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xd9\xa3", b"\xc2\xb2", b"- ", b": ", b"*a"),
)
VALUES = re.compile(rb'-?\d+(\.\d+)?|"[^"]*"|null|true|>[^<>]*<|(?<=,)[^,\n]*|\w+')
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, -1e308, 2**31, 2**63, 2**70, 10**400, "", "../x", "1"),
    *("cat", "nan", [], {}, [[]], [None], {"a": 1}, [1, 2], [[1, 2], [3]], "\x00", "\ud800", "é"),
)
"""What a value of JSON is exchanged for."""


@dataclass
class Tally:
    """What a run has tried.

    Args:
        inputs: Damaged data sets of each sample.
        refused: How many of them raised an error of ours, or had a fault.
        defects: What was raised otherwise, by its place, with the first traceback.
    """

    inputs: Counter[str]
    refused: Counter[str]
    defects: dict[str, str]


def samples_below(root: Path, *, limit: int = 200_000, files: int = 60) -> Iterator[Sample]:
    """Find the data sets below a folder; large files and large sets are left out."""
    for folder in [root, *sorted(path for path in root.rglob("*") if path.is_dir())]:
        content = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        if len(content) > files or any(path.stat().st_size > limit for path in content):
            continue
        try:
            dataset = read_dataset(folder)
        except AgmmError:
            continue
        if any(record.labels for records in dataset.splits.values() for record in records):
            names = {str(path.relative_to(folder)): path.read_bytes() for path in content}
            yield Sample("auto", names)


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cut out, put in, double or replace something in one to three places."""
    for _ in range(rng.randint(1, 3)):
        how = rng.random()
        if how < 0.5 and (values := [m.span() for m in VALUES.finditer(data)]):
            start, end = rng.choice(values)
        else:
            start = rng.randrange(len(data) + 1)
            end = start + rng.choice((0, 1, 2, 9, 100))
        if how > 0.95:
            data = data[:start]
        elif how > 0.85:
            bits = bytearray(data)
            for place in rng.choices(range(len(bits)), k=rng.randint(1, 4)) if bits else ():
                bits[place] = rng.randrange(256)
            data = bytes(bits)
        else:
            put = rng.choice((rng.choice(TOKENS), b"", data[start:end] * 2))
            data = data[:start] + put + data[end:]
    return data


def damaged_json(data: bytes, rng: random.Random) -> bytes:
    """Exchange one value somewhere in it for another one."""
    content = [json.loads(data)]
    places = list(_places(content))
    for _ in range(rng.randint(1, 2)):
        holder, key = rng.choice(places)
        holder[key] = rng.choice((*ODD, rng.choice(content)))
        if rng.random() < 0.2 and isinstance(holder, dict):
            del holder[key]
            break
    try:
        return json.dumps(content[0]).encode()
    except (ValueError, RecursionError):  # it holds itself
        return data


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    inner = holder.items() if isinstance(holder, dict) else enumerate(holder)
    for key, value in inner:
        yield holder, key
        if isinstance(value, dict | list):
            yield from _places(value)


def damaged(files: Mapping[str, bytes], rng: random.Random) -> dict[str, bytes]:
    """Damage one file of a data set, or what files there are."""
    result = dict(files)
    labels = [n for n in files if not n.lower().endswith((".jpg", ".jpeg", ".bmp", ".tif"))]
    name = rng.choice(labels if labels and rng.random() < 0.7 else list(files))
    how = rng.random()
    if how < 0.03:
        del result[name]
    elif how < 0.05:
        result[name] = b""
    elif how < 0.08:
        result[name] = files[rng.choice(list(files))]
    elif how < 0.11:
        new = rng.choice(("é", "x" * 200, "a b", ".a", "a.b.c", "A", "%s", "[red]", "\udcff", "\n"))
        path = Path(name)
        result[str(path.with_name(new + path.suffix))] = result.pop(name)
    elif name.endswith(".json") and how < 0.6:
        result[name] = damaged_json(files[name], rng)
    else:
        result[name] = damaged_bytes(files[name], rng)
    return result


def read_everything(root: Path, format_: str) -> bool:
    """List and decode a data set as ``agmm check`` does.

    Returns:
        Whether nothing is wrong with it.
    """
    dataset = read_dataset(root, format=format_)
    if (root / "mapping.yaml").is_file():
        dataset = mapped(dataset, read_mapping(root / "mapping.yaml"))
    found = [
        inspect(record, FORMS, dataset.classes, clip=False)
        for records in dataset.splits.values()
        for record in records
    ]
    return not any(finding.reasons for finding in found)


def write(root: Path, files: Mapping[str, bytes], before: Mapping[str, bytes]) -> None:
    """Change a folder from one set of files to another."""
    for name in before.keys() - files.keys():
        (root / name).unlink()
    for name, data in files.items():
        if before.get(name) is not data:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)


def fuzz(
    samples: list[Sample],
    *,
    seed: int,
    go_on: Callable[[int], bool],
    keep: Path | None = None,
    progress: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Damage samples in turn until ``go_on``, called with the count of inputs, says no.

    Raises:
        RuntimeError: A sample that is not valid before it is damaged.
    """
    tally, rng = Tally(Counter(), Counter(), {}), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder) / str(i) for i in range(len(samples))]
        for root, sample in zip(roots, samples, strict=True):
            write(root, sample.files, {})
            if not read_everything(root, sample.format) and sample.format != "auto":
                raise RuntimeError(f"the sample {sample.name} has a fault of its own")
        count = 0
        while go_on(count):
            sample, root = samples[count % len(samples)], roots[count % len(samples)]
            count += 1
            files = damaged(sample.files, rng)
            try:
                write(root, files, sample.files)
            except (OSError, ValueError):  # a name that the file system cannot hold
                files = dict(sample.files)
            _try(root, sample, tally, keep)
            write(root, sample.files, files)
            if count % 500 == 0:
                progress(tally)
    return tally


def _try(root: Path, sample: Sample, tally: Tally, keep: Path | None) -> None:
    tally.inputs[sample.name] += 1
    start = time.process_time()  # a busy machine is no defect
    try:
        whole = read_everything(root, sample.format)
        tally.refused[sample.name] += not whole
        defect = None
    except AgmmError:
        tally.refused[sample.name] += 1
        defect = None
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        own = [f for f in traceback.extract_tb(error.__traceback__) if "agmm" in f.filename][-1]
        defect = f"{type(error).__name__} in {own.name}, {place.filename}:{place.lineno}"
        text = traceback.format_exc()
    if time.process_time() - start > SLOW:
        defect, text = f"slow in {sample.name}", f"{time.process_time() - start:.1f} s"
    if defect is not None and defect not in tally.defects:
        tally.defects[defect] = text
        if keep is not None:
            shutil.copytree(root, keep / f"{len(tally.defects):03d}")


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=Path, help="folder with further data sets")
    parser.add_argument("--keep", type=Path, help="folder for the data sets that showed a defect")
    options = parser.parse_args()
    samples = tiny_samples()
    if options.samples is not None:
        samples += samples_below(options.samples)
    end = time.monotonic() + 60 * options.minutes
    shown: set[str] = set()

    def progress(tally: Tally) -> None:
        for defect in tally.defects.keys() - shown:
            shown.add(defect)
            print(f"{defect}\n{tally.defects[defect]}", flush=True)
        if tally.inputs.total() % 10_000 == 0:
            print(f"{tally.inputs.total():,} inputs", flush=True)

    tally = fuzz(
        samples,
        seed=options.seed,
        go_on=lambda _: time.monotonic() < end,
        keep=options.keep,
        progress=progress,
    )
    for name, count in sorted(tally.inputs.items()):
        print(f"{name}: {count:,} inputs, {tally.refused[name]:,} refused")
    print(f"{tally.inputs.total():,} inputs of {len(samples)} samples")
    for defect, text in tally.defects.items():
        print(f"{defect}\n{text}")
    print(f"{len(tally.defects)} defects")
    return bool(tally.defects)


if __name__ == "__main__":
    sys.exit(main())
