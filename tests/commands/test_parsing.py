import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from agmm.commands.parsing import (
    CommandError,
    Parser,
    build_parser,
    comma_separated,
    parse,
    recipe_words,
    run_command,
)
from agmm.config import CamConfig, TrainConfig, from_plain
from agmm.errors import ConfigError, DataError

REQUIRED = ["data", "--labels", "points", "--out", "run"]


def shout(
    name: str,
    *,
    out: Path,
    words: tuple[str, ...] = ("hey",),
    size: tuple[int, int] = (2, 3),
    pitch: Literal["high", "low"] = "low",
    limit: int | None = None,
    very_loud: bool = False,
) -> None:
    """Shout something.

    Args:
        name: Who shouts, 100 % sure.
        out: Where to.
        words: What ``is`` shouted.
        size: Height and width.
        pitch: How high.
        limit: At most.
        very_loud: Wake everybody.
    """


def shouting() -> Parser:
    return build_parser("shout", shout, "agmm shout me --out there\nagmm shout you --out here")


def trained(*arguments: str) -> dict[str, Any]:
    return parse(build_parser("train", TrainConfig, "agmm train"), [*REQUIRED, *arguments])


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(name: str, text: str) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_defaults_are_those_of_the_signature() -> None:
    assert parse(shouting(), ["me", "--out", "there"]) == {
        "name": "me",
        "out": Path("there"),
        "words": ("hey",),
        "size": (2, 3),
        "pitch": "low",
        "limit": None,
        "very_loud": False,
    }


def test_every_kind_of_option() -> None:
    line = "me --out there --words a b --size 4 5 --pitch high --limit 6 --very-loud"

    assert parse(shouting(), line.split()) == {
        "name": "me",
        "out": Path("there"),
        "words": ("a", "b"),
        "size": (4, 5),
        "pitch": "high",
        "limit": 6,
        "very_loud": True,
    }


def test_a_parser_can_be_used_twice() -> None:
    parser = shouting()
    line = ["me", "--out", "there"]

    assert parse(parser, line) == parse(parser, line)


def test_a_flag_of_a_config_file_can_be_taken_back(write: Any) -> None:
    path = write("a", "very_loud: true\n")

    assert parse(shouting(), ["me", "--out", "o", "--config", path])["very_loud"] is True
    line = ["me", "--out", "o", "--config", path, "--no-very-loud"]
    assert parse(shouting(), line)["very_loud"] is False


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--out there", "name"),
        ("me", "out"),
        ("me --out there --pitch middle", "pitch"),
        ("me --out there --size 4", "--size"),
        ("me --out there --size 4 x", "size"),
        ("me --out there --limit many", "limit"),
        ("me --out there --volume 3", "--volume"),
        ("me --out there --config", "--config"),
    ],
)
def test_wrong_use_is_named(line: str, named: str) -> None:
    with pytest.raises(CommandError, match=named) as caught:
        parse(shouting(), line.split())

    assert caught.value.exit_code == 2
    assert "see 'agmm shout --help'" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--method agm", "method: expected one of agmm, agmm-2023, partial-ce,"),
        ("--max-steps ten", "max_steps: expected a whole number or null, got 'ten'\n"),
        ("--max-steps 10.5", "max_steps: expected a whole number or null, got '10.5'\n"),
        ("--crop 64 a", "crop: expected a whole number, got 'a'\n"),
        ("--cam.foreground x", "cam.foreground: expected a number, got 'x'\n"),
        ("--epochs=", "epochs: expected a whole number, got ''\n"),
    ],
)
def test_a_value_of_another_type_is_told_without_python(words: str, told: str) -> None:
    with pytest.raises(CommandError) as caught:
        trained(*words.split())

    assert str(caught.value).startswith(told)
    assert str(caught.value).endswith("see 'agmm train --help'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop: 32\n", r"a\.yaml: crop: expected a list such as \[a, b\], got 32"),
        ("crop: 32 32\n", r"a\.yaml: crop: expected a list such as \[a, b\], got '32 32'"),
        ("seeds: maps\n", r"a\.yaml: seeds: expected a list such as \[a, b\], got 'maps'"),
        ("cam:\n  scales: 1.0\n", r"a\.yaml: cam\.scales: expected a list .*, got 1\.0"),
        ("cam: 3\n", r"a\.yaml: cam: expected a mapping of options, got 3"),
        ("grabcut:\n", r"a\.yaml: grabcut: expected a mapping of options, got None"),
    ],
)
def test_one_word_in_a_file_where_more_is_needed(write: Any, text: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        trained("--config", write("a", text))


def test_help_is_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    shouting().print_help()

    text = capsys.readouterr().out
    words = " ".join(text.split())
    assert "Shout something." in text
    assert "name Who shouts, 100 % sure. (required)" in words
    assert "What is shouted. (default: ['hey'])" in words
    assert "Height and width. (default: [2, 3])" in words
    assert "At most. (default: null)" in words
    assert text.endswith("examples:\n  agmm shout me --out there\n  agmm shout you --out here\n")


def test_every_field_of_the_train_config_is_an_option() -> None:
    assert from_plain(trained()) == TrainConfig(Path("data"), Path("run"), ("points",))


@pytest.mark.parametrize("labels", ["points,blocks", "points, blocks"])
def test_label_forms_are_separated_by_commas(labels: str) -> None:
    assert trained("--labels", labels)["labels"] == ("points", "blocks")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", ["a"]), ("a, b", ["a", "b"]), (["a", "b"], ["a", "b"]), (("a",), ["a"])],
)
def test_comma_separated(value: str | Sequence[str], expected: list[str]) -> None:
    assert comma_separated(value) == expected


def test_a_config_file_gives_any_option(write: Any) -> None:
    text = (
        "data: photos\nout: runs/a\nlabels: [points, blocks]\ncrop: [64, 96]\nlr: 1e-3\n"
        "max_steps: 7\nskip_bad: true\nobjective: {mutual: 0.2, network_prior: false}\n"
        "seeds: [maps]\ncam: {foreground: 0.7}\n"
    )
    parser = build_parser("train", TrainConfig, "agmm train")

    config = from_plain(parse(parser, ["--config", write("a", text)]))

    assert config == TrainConfig(
        data=Path("photos"),
        out=Path("runs/a"),
        labels=("points", "blocks"),
        crop=(64, 96),
        lr=1e-3,
        max_steps=7,
        skip_bad=True,
        objective={"mutual": 0.2, "network_prior": False},
        seeds=(Path("maps"),),
        cam=CamConfig(foreground=0.7),
    )


def test_the_command_line_goes_before_config_files_wherever_they_stand(write: Any) -> None:
    first = write("first", "lr: 0.1\nbatch_size: 3\nepochs: 5\n")
    second = write("second", "lr: 0.2\nbatch_size: 4\n")

    before = trained("--lr", "0.3", "--config", first, f"--config={second}")
    after = trained("--config", first, "--config", second, "--lr", "0.3")

    assert before == after
    assert (before["lr"], before["batch_size"], before["epochs"]) == (0.3, 4, 5)


def test_options_of_the_objective_are_added_to_those_of_the_file(write: Any) -> None:
    path = write("a", "objective: {mutual: 0.5, separation: 0.1}\n")

    values = trained("--objective.mutual", "0.2", "--config", path, "--objective.step_size", "0.3")

    assert values["objective"] == {"mutual": 0.2, "separation": 0.1, "step_size": 0.3}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("learning_rate: 1\n", "learning_rate"),
        ("lr: fast\n", "lr"),
        ("crop: [64, wide]\n", "crop"),
        ("batch_size: 2.5\n", "batch_size"),
        ("objective: 3\n", "objective"),
        ("[1, 2]\n", "config"),
        ("{\n", "config"),
    ],
)
def test_a_wrong_config_file_is_wrong_use(write: Any, text: str, named: str) -> None:
    with pytest.raises(CommandError, match=named) as caught:
        trained("--config", write("a", text))

    assert caught.value.exit_code == 2


def test_a_recipe_is_a_config_file(write: Any) -> None:
    path = write("mine", "lr: 0.1\n")

    assert recipe_words(path) == ["--config", path]


def test_a_recipe_with_an_unknown_key_is_refused_by_its_name(write: Any) -> None:
    path = write("mine", "lr: 0.1\nlearning_rate: 1\n")

    with pytest.raises(ConfigError, match=r"mine\.yaml: unknown key 'learning_rate'; known: data"):
        recipe_words(path)


def module_that_raises(error: BaseException | None) -> types.ModuleType:
    module: Any = types.ModuleType("module")

    def main(name: str, arguments: Sequence[str]) -> None:
        module.seen = (name, list(arguments))
        if error is not None:
            raise error

    module.main = main
    return module  # type: ignore[no-any-return]


def test_success_is_0_and_debug_is_no_argument_of_the_command() -> None:
    module: Any = module_that_raises(None)

    assert run_command(module, "shout", ["me", "--debug"]) == 0
    assert module.seen == ("shout", ["me"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("no such file"), 1),
        (PermissionError("not yours"), 1),
        (ConfigError("no such option"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError) as caught:
        run_command(module_that_raises(error), "shout", [])

    assert caught.value.exit_code == code
    assert str(caught.value) == (str(error) or "stopped")
    assert capsys.readouterr().err == ""


def test_debug_prints_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandError, match="no such file"):
        run_command(module_that_raises(DataError("no such file")), "shout", ["--debug"])

    assert "DataError: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a"),
            " (tried to allocate 2.00 GiB)",
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate"
                " memory: you tried to allocate 8000000000 bytes. Error code 12"
            ),
            " (tried to allocate 8000000000 bytes)",
        ),
        (MemoryError(), ""),
    ],
)
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("train", "--image-scale"),
        ("train", "--overlays 0"),
        ("evaluate", "--tile"),
        ("predict", "--tile"),
        ("label", "--device cpu"),
    ],
)
def test_too_little_memory_is_a_failure_with_a_remedy(
    error: Exception, asked: str, name: str, remedy: str
) -> None:
    with pytest.raises(CommandError) as caught:
        run_command(module_that_raises(error), name, [])

    assert caught.value.exit_code == 1
    assert str(caught.value).startswith(f"too little memory{asked}: ")
    assert remedy in str(caught.value)


@pytest.mark.parametrize("error", [ZeroDivisionError(), RuntimeError("shapes do not fit")])
def test_a_defect_of_the_program_is_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_command(module_that_raises(error), "shout", [])


def test_help_ends_with_its_own_exit_code() -> None:
    assert run_command(module_that_raises(SystemExit(0)), "shout", []) == 0
    assert run_command(module_that_raises(SystemExit(2)), "shout", []) == 2
