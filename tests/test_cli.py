import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import agmm
from agmm.cli import COMMANDS, main


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    out, err = capsys.readouterr()
    assert err == ""
    assert "examples:" in out
    for name, text in COMMANDS.items():
        assert f"\n  {name} " in out
        assert text in out


def test_help_does_not_wait_for_heavy_imports() -> None:
    program = (
        "import sys; from agmm.cli import main; code = main(['--help']); "
        "heavy = {'torch', 'torchvision', 'lightning', 'timm', 'numpy', 'PIL', 'rich'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else code)"
    )

    done = run_python("-c", program)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: agmm ")


@pytest.mark.parametrize("name", ["check", "simulate"])
def test_what_needs_no_network_does_not_wait_for_torch(name: str) -> None:
    program = (
        f"import sys, agmm.commands.{name}; "
        "print({'torch', 'torchvision', 'lightning', 'timm'} & set(sys.modules))"
    )

    done = run_python("-c", program)

    assert (done.returncode, done.stdout) == (0, "set()\n")


def test_a_picture_that_is_too_large_is_told_once(tmp_path: Path) -> None:
    picture = tmp_path / "images/train/a.png"
    picture.parent.mkdir(parents=True)
    Image.new("1", (10_000, 9_000)).save(picture)
    (tmp_path / "classes.txt").write_text("sky\nroad\n")

    done = run_python("-m", "agmm", "check", str(tmp_path))

    assert done.returncode == 1
    assert f"{picture}: " in done.stdout
    assert "Warning" not in done.stdout + done.stderr


def test_the_module_is_the_command() -> None:
    done = run_python("-m", "agmm", "--version")

    assert (done.returncode, done.stdout) == (0, f"agmm {agmm.__version__}\n")


@pytest.mark.parametrize(
    "name", ["config.PseudoConfig", "errors.InputError", "mixture.AGMM2023Loss"]
)
def test_the_modules_that_the_manual_names_need_no_import_of_their_own(name: str) -> None:
    done = run_python("-c", f"import agmm; print(agmm.{name}.__name__)")

    assert done.returncode == 0, done.stderr
    assert done.stdout == name.split(".")[1] + "\n"


def test_the_exit_code_reaches_the_shell() -> None:
    done = run_python("-m", "agmm.cli", "segment")

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("agmm: no command 'segment'")
    assert "Traceback" not in done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"agmm {agmm.__version__}\n"


def test_no_command_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().out


def test_an_unknown_command_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian", "data"]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert "'trian'" in err
    assert all(name in err for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0

    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: agmm {name} ")
    examples = out.partition("\nexamples:\n")[2].splitlines()
    assert examples
    assert all(line.startswith(f"  agmm {name}") for line in examples)
    # Types are the program's affair.
    assert "<class" not in out
    assert "type:" not in out


@pytest.mark.parametrize("name", ["train", "evaluate", "predict", "label", "simulate"])
def test_a_missing_argument_is_wrong_use(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"agmm {name}: ")
    assert f"see 'agmm {name} --help'" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "data", "--out", "run"], "labels"),
        (["train", "data", "--labels", "points"], "out"),
        (["train", "data", "--out", "run", "--labels", "pionts"], "pionts"),
        (["train", "data", "--out", "run", "--labels", "points", "--crop", "64"], "--crop"),
        (["train", "data", "--out", "run", "--labels", "points", "--lr", "fast"], "lr"),
        (["train", "data", "--out", "run", "--labels", "points", "--lr", "0"], "lr"),
        (["train", "data", "--out", "run", "--labels", "points", "--depth", "3"], "--depth"),
        (["train", "data", "--out", "run", "--labels", "points", "--recipe", "no"], "--recipe"),
        (["train", "data", "--out", "run", "--labels", "points", "--config", "no.yaml"], "no.yaml"),
        (["evaluate", "run", "data", "--checkpoint", "first"], "checkpoint"),
        (["simulate", "data", "--out", "weak"], "form"),
        (["simulate", "data", "--form", "strokes", "--out", "weak"], "strokes"),
        (["simulate", "data", "--form", "", "--out", "weak"], "form"),
        (["simulate", "data", "--form", "points", "--out", "data/weak"], "--out"),
        (
            ["simulate", "data", "--form", "blocks", "--out", "w", "--block-share", "2"],
            "block_share",
        ),
        (["simulate", "data", "--form", "blocks", "--out", "w", "--workers", "0"], "--workers"),
        (["predict", "run", "pictures", "--out", "masks", "--tile", "x"], "tile"),
        (["predict", "run", "pictures", "--out", "masks", "--device", "toaster"], "--device"),
    ],
)
def test_an_unusable_argument_is_wrong_use_and_named(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert named in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "gone", "--labels", "points", "--out", "run"],
        ["evaluate", "gone", "data"],
        ["predict", "run", "gone", "--out", "masks"],
        ["label", "gone", "data", "--out", "pseudo"],
        ["simulate", "gone", "--form", "points", "--out", "weak"],
    ],
)
def test_a_missing_folder_is_a_failure(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"agmm {arguments[0]}: gone: ")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_error_came_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path / "gone"), str(tmp_path), "--debug"]) == 1

    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in load_run" in err
    assert "\nagmm evaluate: " in err


def test_stopped_while_a_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(name: str) -> None:
        raise KeyboardInterrupt(name)

    monkeypatch.setattr("importlib.import_module", stop)

    assert main(["train", "photos"]) == 130
    assert capsys.readouterr().err == "agmm train: stopped\n"


def test_a_file_that_cannot_be_written_is_a_failure(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()

    images = tiny_data / "images" / "val"
    assert main(["predict", str(tiny_run), str(images), "--out", str(blocked / "masks")]) == 1

    err = capsys.readouterr().err
    assert "agmm predict: " in err
    assert str(blocked) in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", agmm.__all__)
def test_public_names_are_there(name: str) -> None:
    assert name in dir(agmm)
    assert getattr(agmm, name).__name__ == name


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        _ = agmm.segment
