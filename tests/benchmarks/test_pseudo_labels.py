"""Four ways of labelling training pictures: the figures are those that users get elsewhere."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agmm.commands.label import label
from agmm.datasets.images import read_image
from agmm.datasets.masks import read_index_mask
from agmm.evaluation.calibration import CalibrationMap
from agmm.inference.predict import predict_probabilities
from agmm.training.run import load_run

HARNESS = Path(__file__).parents[2] / "benchmarks" / "pseudo_labels.py"


@pytest.fixture(scope="module")
def harness() -> Any:
    return SimpleNamespace(**runpy.run_path(str(HARNESS), run_name="pseudo_labels"))


def test_the_figures_are_those_of_label_and_of_the_argmax(
    harness: Any,
    tiny_run: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "results.json"
    words = [str(tiny_data), str(tiny_run), "--results", str(file)]
    monkeypatch.setattr("sys.argv", ["pseudo_labels.py", *words])

    harness.main()

    found = {row["way"]: row for row in json.loads(file.read_text())}
    table = capsys.readouterr().out
    assert list(found) == ["network", "network, allowed classes", "prediction", "pseudo labels"]
    assert all(row["pictures"] == 4 for row in found.values())
    assert all(f"| run | {way} |" in table for way in found)

    label(tiny_run, tiny_data, out=tmp_path / "labels", checkpoint="last", device="cpu")
    expected = json.loads((tmp_path / "labels/quality.json").read_text())["not_annotated"]
    for name in ("miou", "precision", "expected_calibration_error"):
        assert found["pseudo labels"][name] == pytest.approx(expected[name], abs=1e-4)

    run = load_run(tiny_run, checkpoint="last", device="cpu")
    right, number = 0, 0
    for name in "abcd":
        image = read_image(tiny_data / f"images/train/{name}.png")
        probs = predict_probabilities(run.model, image, device="cpu", tile=None)
        truth, strokes = (
            read_index_mask(tiny_data / f"{folder}/{name}.png", run.classes)
            for folder in ("masks/train", "scribbles")
        )
        free = strokes == 255
        right += int(np.count_nonzero((probs.argmax(0).numpy() == truth)[free]))
        number += int(np.count_nonzero(free))
    assert found["network"]["precision"] == pytest.approx(right / number, abs=1e-3)


def test_calibrated_confidence_is_measured_beside_what_it_was(
    harness: Any, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = replace(
        load_run(tiny_run, device="cpu"), calibration=CalibrationMap((0.0, 1.0), (0.25, 0.25))
    )
    (record,) = harness.training_records(run, tiny_data, 4, tmp_path)
    guess = np.full(read_image(record.image).shape[:2], 255, np.uint8)

    found = harness.measure(run, [replace(record, guesses=(lambda: guess,))])

    calibrated, plain = found["pseudo labels"], found["pseudo labels, not calibrated"]
    same = harness.measure(run, [record])["pseudo labels"]  # the guess says nothing
    assert plain.calibration.confidence.tolist() == same.calibration.confidence.tolist()
    assert plain.guessed.counts.tolist() == calibrated.guessed.counts.tolist()
    (bar,) = [bar for bar in calibrated.calibration.bins() if bar.pixels]
    assert bar.confidence == pytest.approx(0.25)


def test_a_run_on_the_dense_masks_is_refused(
    harness: Any, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = load_run(tiny_run, device="cpu")
    run = replace(run, config=replace(run.config, labels=("dense",)))

    with pytest.raises(SystemExit, match="was trained from the dense masks"):
        harness.training_records(run, tiny_data, 1, tmp_path)
