"""The documentation says what the code does."""

import dataclasses
import importlib
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import agmm
from agmm.cli import COMMANDS
from agmm.config import STAGES, TrainConfig

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "recipes/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CONFIGURATION = ROOT / "docs" / "reference" / "configuration.md"
PYTHON = ROOT / "docs" / "reference" / "python.md"


def blocks(language: str) -> list[Any]:
    """Code blocks of all pages in a language, named after page and place."""
    found = []
    for page in PAGES:
        code = [text for name, text in FENCE.findall(page.read_text("utf-8")) if name == language]
        name = page.relative_to(ROOT).as_posix()
        found += [pytest.param(text, id=f"{name}-{i}") for i, text in enumerate(code)]
    return found


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {slug(heading) for heading in headings} | set(re.findall(r'<a id="([^"]+)">', text))


def rows(page: Path) -> list[list[str]]:
    """Cells of all table rows of a page, code marks removed."""
    lines = (line for line in page.read_text("utf-8").splitlines() if line.startswith("|"))
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]


def shown(value: object) -> str:
    """A default as the tables write it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def default(field: "dataclasses.Field[Any]") -> str:
    if field.default is not dataclasses.MISSING:
        return shown(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return shown(field.default_factory())
    return "required"


OPTIONS = {
    f"{prefix}{field.name}": default(field)
    for prefix, kind in {
        "": TrainConfig,
        **{f"{name}.": kind for name, kind in STAGES.items()},
    }.items()
    for field in dataclasses.fields(kind)
    if f"{prefix}{field.name}" not in STAGES
}
"""Every option of `agmm train` and its default, those of a stage with its name in front."""


def parameters(function: Any) -> str:
    """The signature without types."""
    signature = inspect.signature(function)
    empty = inspect.Parameter.empty
    bare = [p.replace(annotation=empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=empty))


def test_the_pages_are_found() -> None:
    assert {ROOT / "README.md", CONFIGURATION, PYTHON} <= set(PAGES)
    assert len(blocks("python")) >= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_block_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "documentation"}
    exec(compile(code, "documentation", "exec"), namespace)
    assert namespace.keys() > {"__name__", "__builtins__"}, "a block that does nothing"


@pytest.mark.parametrize("code", blocks("bash"))
def test_every_command_line_has_options_that_exist(code: str) -> None:
    unknown = []
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if "agmm " in line else []
        if "agmm" not in words or words[-1] == "agmm":
            continue
        if words[words.index("agmm") - 1].startswith("--"):  # the value of an option: a method
            continue
        name, *rest = words[words.index("agmm") + 1 :]
        assert name in COMMANDS
        module = importlib.import_module(f"agmm.commands.{name}")
        function = TrainConfig if name == "train" else getattr(module, name)
        known = {"config", "debug", "help", *inspect.signature(function).parameters}
        known |= {"recipe", "print_config"} if name == "train" else set()
        flags = (word.removeprefix("--").partition(".")[0] for word in rest if word[:2] == "--")
        unknown += [flag for flag in flags if flag.replace("-", "_") not in known]
    assert unknown == []


def test_the_table_of_options_is_complete() -> None:
    table = {cells[0]: cells[1] for cells in rows(CONFIGURATION) if len(cells) == 3}
    assert {name: table.get(name) for name in OPTIONS} == OPTIONS


def test_the_table_of_the_objective_is_complete() -> None:
    table = {cells[0]: cells[1] for cells in rows(CONFIGURATION) if len(cells) == 3}
    options = {
        name: shown(parameter.default)
        for name, parameter in inspect.signature(agmm.AGMMLoss).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "warmup_steps"
    }
    assert {name: table.get(name) for name in options} == options
    known = {"option", *options, *OPTIONS}
    assert {name for name in table if not name.startswith("-")} == known


@pytest.mark.parametrize("name", sorted(set(agmm.__all__) - {"TrainConfig"}))
def test_every_public_signature_is_told(name: str) -> None:
    assert f"\nagmm.{name}{parameters(getattr(agmm, name))}\n" in PYTHON.read_text("utf-8")


def test_the_call_of_the_loss_is_told() -> None:
    call = parameters(agmm.AGMMLoss.forward).replace("(self, ", "objective(")
    assert f"\n{call}\n" in PYTHON.read_text("utf-8")


def test_the_config_is_told() -> None:
    required = [
        field.name for field in dataclasses.fields(TrainConfig) if default(field) == "required"
    ]
    assert f"\nagmm.TrainConfig({', '.join(required)}, ...)\n" in PYTHON.read_text("utf-8")


def test_the_tree_names_every_module() -> None:
    page = (ROOT / "docs" / "explanation" / "design.md").read_text("utf-8")
    tree = next(block for _, block in FENCE.findall(page) if block.startswith("src/agmm/"))
    named = re.findall(r"\w+\.py\b", tree)
    modules = {path.name for path in (ROOT / "src" / "agmm").rglob("*.py")}
    assert set(named) == modules - {"__init__.py"}
