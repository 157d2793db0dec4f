"""Malformed files of every kind: one clear error of ours each, through the command."""

import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agmm.cli import main
from tests.datasets.samples import tiny_samples

SAMPLES = {sample.name: sample for sample in tiny_samples()}
LAUGHS = (
    b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'
)
EXTERNAL = b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


def bomb() -> bytes:
    """Make a PNG that claims 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


Change = Callable[[bytes], bytes]


def put(old: bytes, new: bytes) -> Change:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return change


def only(data: bytes) -> Change:
    return lambda _: data


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def utf16(data: bytes) -> bytes:
    return data.decode().encode("utf-16")


DEEP = only(b"[" * 100_000)
HUGE = b"9" * 5000
XML = ((only(b""), "empty"), (half, "half"), (only(b"{}"), "json"), (DEEP, "deep"))
CASES: dict[str, tuple[str, str, Change]] = {
    f"{format_} {what}": (format_, file, change)
    for format_, file in (
        ("cvat", "annotations.xml"),
        ("labelme-web", "Annotations/a.xml"),
        ("scribblesup", "a.xml"),
        ("voc", "Annotations/a.xml"),
    )
    for change, what in (
        *XML,
        (
            lambda data: LAUGHS + data.replace(b"cat<", b"&c;<").replace(b'"cat"', b'"&c;"'),
            "laughs",
        ),
        (lambda data: EXTERNAL + data.replace(b"cat<", b"&a;<"), "external"),
    )
}
CASES |= {
    f"{format_} {what}": (format_, file, change)
    for format_, file in (("labelme", "a.json"), ("label-studio", "export.json"))
    for change, what in ((only(b""), "empty"), (half, "half"), (DEEP, "deep"), (utf16, "utf-16"))
}
CASES |= {
    "folder clicks.json empty": ("folder", "clicks.json", only(b"")),
    "folder clicks.json half": ("folder", "clicks.json", half),
    "folder clicks.json deep": ("folder", "clicks.json", DEEP),
    "folder clicks.json list": ("folder", "clicks.json", only(b"[]")),
    "folder clicks.json NaN": ("folder", "clicks.json", put(b"3.5", b"NaN")),
    "folder clicks.json infinite": ("folder", "clicks.json", put(b"3.5", b"1e999")),
    "folder clicks.json huge": ("folder", "clicks.json", put(b"3.5", HUGE)),
    "folder clicks.json class": ("folder", "clicks.json", put(b'"cls": 1', b'"cls": 7')),
    "folder clicks.json twice": ("folder", "clicks.json", put(b'"c": []', b'"a.jpg": []')),
    "folder clicks.json utf-16": ("folder", "clicks.json", utf16),
    "folder boxes.csv empty": ("folder", "boxes.csv", only(b"")),
    "folder boxes.csv header": ("folder", "boxes.csv", put(b"xmin", b"left")),
    "folder boxes.csv nan": ("folder", "boxes.csv", put(b"2,0,4,3", b"2,0,nan,3")),
    "folder boxes.csv inf": ("folder", "boxes.csv", put(b"2,0,4,3", b"2,0,inf,3")),
    "folder boxes.csv word": ("folder", "boxes.csv", put(b"2,0,4,3", b"2,0,x,3")),
    "folder boxes.csv fields": ("folder", "boxes.csv", put(b"2,0,4,3", b"2,0,4")),
    "folder boxes.csv class": ("folder", "boxes.csv", put(b"jpg,cat", b"jpg,cow")),
    "folder boxes.csv latin-1": ("folder", "boxes.csv", put(b"a.jpg", b"\xe4.jpg")),
    "folder boxes.csv picture": ("folder", "boxes.csv", put(b"a.jpg", b"../a.jpg")),
    "folder boxes.csv quote": ("folder", "boxes.csv", put(b"a.jpg", b'"a.jpg')),
    "folder tags.csv empty": ("folder", "tags.csv", only(b"")),
    "folder tags.csv class": ("folder", "tags.csv", put(b"a,cat", b"a,cow")),
    "folder tags.csv twice": ("folder", "tags.csv", put(b"a,cat", b"a,cat\na.jpg,cat")),
    "folder tags.csv utf-16": ("folder", "tags.csv", utf16),
    "folder tags.csv picture": ("folder", "tags.csv", put(b"a,cat", b"/a,cat")),
    "folder classes.txt empty": ("folder", "classes.txt", only(b"")),
    "folder classes.txt latin-1": ("folder", "classes.txt", only(b"background\nb\xe4r\n")),
    "folder classes.txt twice": ("folder", "classes.txt", only(b"cat\nCat\n")),
    "folder classes.txt 256": ("folder", "classes.txt", only(b"x\n".join([b"c"] * 257))),
    "folder classes.txt colour": ("folder", "classes.txt", only(b"a 1 2 3\nb 1 2 999\n")),
    "folder mapping empty": ("folder", "mapping.yaml", only(b"")),
    "folder mapping list": ("folder", "mapping.yaml", only(b"- cat\n")),
    "folder mapping number": ("folder", "mapping.yaml", only(b"cat: 1\n")),
    "folder mapping twice": ("folder", "mapping.yaml", only(b"cat: a\ncat: b\n")),
    "folder mapping deep": ("folder", "mapping.yaml", DEEP),
    "folder mapping object": ("folder", "mapping.yaml", only(b"cat: !!python/name:os.system\n")),
    "folder mapping utf-16": ("folder", "mapping.yaml", utf16),
    "folder mapping itself": ("folder", "mapping.yaml", only(b"&a cat: *a\nx: &b {y: *b}\n")),
    "folder points half": ("folder", "points/e.png", half),
    "folder points bomb": ("folder", "points/e.png", only(bomb())),
    "folder points empty": ("folder", "points/e.png", only(b"")),
    "folder blocks JPEG": ("folder", "blocks/a.png", only(SAMPLES["folder"].files["images/a.jpg"])),
    "folder blocks size": ("folder", "blocks/a.png", only(SAMPLES["folder"].files["images/b.png"])),
    "folder picture half": ("folder", "images/a.jpg", half),
    "folder picture bomb": ("folder", "images/b.png", only(bomb())),
    "folder picture empty": ("folder", "images/a.jpg", only(b"")),
    "folder picture text": ("folder", "images/a.jpg", only(b"no picture")),
    "voc labelmap empty": ("voc", "labelmap.txt", only(b"")),
    "voc labelmap nameless": ("voc", "labelmap.txt", put(b"cat", b"")),
    "voc coordinate nan": ("voc", "Annotations/a.xml", put(b"<xmin>3", b"<xmin>nan")),
    "voc coordinate infinite": ("voc", "Annotations/a.xml", put(b"<xmin>3", b"<xmin>1e999")),
    "voc coordinate negative": ("voc", "Annotations/a.xml", put(b"<xmin>3", b"<xmin>-9")),
    "voc filename": ("voc", "Annotations/a.xml", put(b"a.jpg", b"../a.jpg")),
    "voc mask bomb": ("voc", "SegmentationClass/a.png", only(bomb())),
    "cvat name": ("cvat", "annotations.xml", put(b"a.png", b"../a.png")),
    "cvat absolute name": ("cvat", "annotations.xml", put(b"a.png", b"/etc/a.png")),
    "cvat coordinate": ("cvat", "annotations.xml", put(b'xtl="0"', b'xtl="nan"')),
    "cvat size": ("cvat", "annotations.xml", put(b'width="40"', b'width="' + HUGE + b'"')),
    "labelme name": ("labelme", "a.json", put(b"a.png", b"../../a.png")),
    "labelme coordinate": ("labelme", "a.json", put(b"[2, 1]", b"[1e999, 1]")),
    "labelme huge": ("labelme", "a.json", put(b"[2, 1]", b"[" + HUGE + b", 1]")),
    "label-studio coordinate": ("label-studio", "export.json", put(b'"x": 10', b'"x": NaN')),
    "scribblesup coordinate": ("scribblesup", "a.xml", put(b"<X>0<", b"<X>inf<")),
    "labelme-web coordinate": ("labelme-web", "Annotations/a.xml", put(b"<x>0<", b"<x>nan<")),
    "tel blocks half": ("tel", "train/sparse_label/block10/a.png", half),
    "tel classes empty": ("tel", "classes.txt", only(b"")),
}


def make(root: Path, sample: str) -> None:
    for name, data in SAMPLES[sample].files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def arguments(root: Path, sample: str) -> list[str]:
    mapping = root / "mapping.yaml"
    words = ["check", str(root), "--format", SAMPLES[sample].format]
    return [*words, "--mapping", str(mapping)] if mapping.is_file() else words


def test_there_are_enough() -> None:
    assert len(CASES) >= 80


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_samples_are_whole(tmp_path: Path, sample: str) -> None:
    make(tmp_path, sample)
    assert main(arguments(tmp_path, sample)) == 0


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample, file, change = CASES[case]
    make(tmp_path, sample)
    (tmp_path / file).write_bytes(change(SAMPLES[sample].files[file]))

    assert main(arguments(tmp_path, sample)) in (1, 2)

    printed = capsys.readouterr()
    said = printed.out + printed.err
    assert "Traceback" not in said
    # The file, or the picture whose label it is.
    name = f"/{Path(file).stem}."
    told = [line.split(name, 1)[1] for line in said.splitlines() if name in line]
    assert told, said
    # What is wrong, and in a sentence of its own the remedy.
    assert any(re.search(r"[.;] \w", line) for line in told), said


def test_a_folder_that_holds_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "folder")
    (tmp_path / "masks/val/loop").symlink_to(tmp_path / "masks", target_is_directory=True)

    assert main(arguments(tmp_path, "folder")) == 1
    assert "loop: is a link to a folder that it lies in" in capsys.readouterr().err


def test_bom_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    make(tmp_path, "folder")
    for name in ("boxes.csv", "tags.csv", "classes.txt", "mapping.yaml", "clicks.json"):
        data = (tmp_path / name).read_bytes().replace(b"\n", b"\r\n")
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + data)

    assert main([*arguments(tmp_path, "folder"), "--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["faults"] == []
