"""Time and memory of reading the annotations of many pictures, ours beside Datumaro's own import.

    uv run python benchmarks/reading.py /tmp/reading

Writes a data set in the layout of PASCAL VOC and one in that of COCO into the folder, with the same
boxes in both and polygons in the second. All picture files are hard links of a few small JPEGs.
Each reader runs in a process of its own, one by one; the table gives the CPU seconds from before
its import until all pictures are listed and until every box has been read, and the most memory
that the process had.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 64, 48
READERS = (("ours", "coco"), ("datumaro", "coco"), ("ours", "voc"), ("datumaro", "voc"))
LINKS = 30_000  # pictures that share one file; file systems allow 65,000 links at most


def make(root: Path, pictures: int) -> None:
    """Write both data sets: about five boxes per picture, polygons of twenty corners."""
    rng = random.Random(0)
    names = [f"{number:012}" for number in range(pictures)]
    voc, coco = root / "voc", root / "coco"
    for folder in (voc / "JPEGImages", voc / "Annotations", voc / "ImageSets/Main"):
        folder.mkdir(parents=True)
    for folder in (coco / "images/train", coco / "annotations"):
        folder.mkdir(parents=True)
    (voc / "ImageSets/Main/train.txt").write_text("\n".join(names) + "\n")
    label_map = [f"{'background' if i == 0 else f'c{i}'}:{i},0,0::\n" for i in range(11)]
    (voc / "labelmap.txt").write_text("".join(label_map))
    annotations: list[dict[str, object]] = []
    for number, name in enumerate(names):
        shared = root / f"{number // LINKS}.jpg"
        if number % LINKS == 0:
            Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)).save(shared)
        for folder in (voc / "JPEGImages", coco / "images/train"):
            os.link(shared, folder / f"{name}.jpg")
        boxes = [_box(rng) for _ in range(rng.randint(3, 7))]
        (voc / f"Annotations/{name}.xml").write_text(_xml(name, boxes))
        for box in boxes:
            annotations.append(_annotation(len(annotations) + 1, number + 1, box, rng))
    images = [
        {"id": i + 1, "file_name": f"{name}.jpg", "width": WIDTH, "height": HEIGHT}
        for i, name in enumerate(names)
    ]
    categories = [{"id": i, "name": f"c{i}", "supercategory": ""} for i in range(1, 11)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (coco / "annotations/instances_train.json").write_text(json.dumps(content))


def _box(rng: random.Random) -> tuple[int, int, int, int, int]:
    """Class, xmin, ymin, xmax, ymax with exclusive maxima."""
    x, y = rng.randrange(WIDTH - 8), rng.randrange(HEIGHT - 8)
    return rng.randint(1, 10), x, y, rng.randint(x + 4, WIDTH), rng.randint(y + 4, HEIGHT)


def _xml(name: str, boxes: list[tuple[int, int, int, int, int]]) -> str:
    objects = "".join(
        f"<object><name>c{label}</name><pose>Left</pose><truncated>0</truncated>"
        f"<difficult>0</difficult><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, x0, y0, x1, y1 in boxes
    )
    return (
        f"<annotation><folder>VOC</folder><filename>{name}.jpg</filename><size><width>{WIDTH}"
        f"</width><height>{HEIGHT}</height><depth>3</depth></size><segmented>0</segmented>"
        f"{objects}</annotation>"
    )


def _annotation(
    own: int, picture: int, box: tuple[int, int, int, int, int], rng: random.Random
) -> dict[str, object]:
    label, x0, y0, x1, y1 = box
    polygon = [round(rng.uniform(*((x0, x1), (y0, y1))[i % 2]), 2) for i in range(40)]
    return {
        "id": own,
        "image_id": picture,
        "category_id": label,
        "segmentation": [polygon],
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
    }


def read(reader: str, layout: str, root: Path) -> dict[str, float]:
    """Read a data set in this process."""
    start = time.process_time()
    listed, boxes = (_ours if reader == "ours" else _datumaro)(layout, root / layout)
    seconds = time.process_time() - start
    count = sum(boxes)
    return {
        "pictures": listed,
        "boxes": count,
        "listed_s": seconds,
        "read_s": time.process_time() - start,
        "peak_gb": _peak_kilobytes() / 2**20,
    }


def _peak_kilobytes() -> int:
    """Most memory of this process; not `ru_maxrss`, which starts with the parent's (Linux)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def _ours(layout: str, root: Path) -> tuple[int, Iterator[int]]:
    from agmm.datasets.reader import read_dataset
    from agmm.labels.annotations import Boxes

    records = read_dataset(root, format=layout).split("train")

    def boxes() -> Iterator[int]:
        for record in records:
            found = record.labels["boxes"]()
            assert isinstance(found, Boxes)
            yield len(found.classes)

    return len(records), boxes()


def _datumaro(layout: str, root: Path) -> tuple[int, Iterator[int]]:
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    names = {"voc": "voc_detection", "coco": "coco_instances"}
    found = Dataset.import_from(str(root), names[layout])
    items = list(found)

    def boxes() -> Iterator[int]:
        for item in items:
            yield sum(a.type == AnnotationType.bbox for a in item.annotations)

    return len(items), boxes()


def main() -> None:
    """Write the data, start the readers, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--child", nargs=2, metavar=("READER", "LAYOUT"), help="of this program")
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(read(*arguments.child, arguments.folder)))
        return
    if not arguments.folder.exists():
        make(arguments.folder, arguments.pictures)
    print("| layout | reader | pictures | boxes | CPU s, listed | CPU s, boxes read | peak GB |")
    print("|---|---|---|---|---|---|---|")
    for reader, layout in READERS:
        command = [sys.executable, __file__, str(arguments.folder), "--child", reader, layout]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"| {layout} | {reader} | failed: {done.stderr.strip().splitlines()[-1]} |")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {layout} | {reader} | {found['pictures']} | {found['boxes']} |"
            f" {found['listed_s']:.1f} | {found['read_s']:.1f} | {found['peak_gb']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
