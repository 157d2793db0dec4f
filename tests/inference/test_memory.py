"""What is held while a large picture is predicted does not grow with its height."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = 21
SIDE = 2500
PROGRAM = """
import re, sys
from pathlib import Path

import numpy as np
from torch import nn

from agmm.datasets.classes import Classes, voc_colors
from agmm.datasets.mask_rows import written_in_rows
from agmm.datasets.windows import opened_tiff
from agmm.inference.predict import predict_classes
from agmm.models.segmenter import Segmenter, SegmenterOutput


class Tiny(Segmenter):
    def forward(self, images):
        return SegmenterOutput(self.head(images), images)


def megabytes(what):
    status = Path("/proc/self/status").read_text()
    return int(re.search(what + r":\\s+(\\d+) kB", status)[1]) / 1024


k, folder = int(sys.argv[1]), Path(sys.argv[2])
model = Tiny(nn.Identity(), nn.Identity(), nn.Conv2d(3, k, 1), num_classes=k, pad_to=1)
classes = Classes(tuple(f"c{i}" for i in range(k)), tuple(voc_colors(k)))


def predict(name):
    with opened_tiff(folder / f"{name}.tif") as picture:
        size = picture.height, picture.width
        with written_in_rows(folder / f"{name}.png", *size, classes) as write:
            predict_classes(model, picture, write, device="cpu", tile=256, batch_size=2)


predict("small")  # what libraries load is not counted
before = megabytes("VmRSS")
predict("large")
print(megabytes("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory from /proc")
def test_a_picture_is_predicted_in_a_fraction_of_the_memory_of_its_probabilities(
    tmp_path: Path,
) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (SIDE // 50, SIDE // 50, 3), np.uint8)
    large = Image.fromarray(colors).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.tif", compression="tiff_lzw")
    large.crop((0, 0, 300, 300)).save(tmp_path / "small.tif")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(CLASSES), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    whole = 4 * CLASSES * SIDE**2 / 2**20  # 501 MB
    with Image.open(tmp_path / "large.png") as mask:
        assert mask.size == (SIDE, SIDE)
    assert float(done.stdout) < whole / 3
