"""From a signature and its docstring to a command: options, help, exit codes."""

import argparse
import dataclasses
import inspect
import re
import sys
import textwrap
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentError, ArgumentParser, DefaultHelpFormatter

from agmm.commands.memory import is_out_of_memory, out_of_memory_told
from agmm.config import TrainConfig, read_yaml, recipe_path
from agmm.errors import AgmmError, ConfigError


class CommandError(Exception):
    """A failure to report on one line: 1 for a failure, 2 for wrong use."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Parser(ArgumentParser):
    """Remembers for which options a config file has to give a list, or a mapping of options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lists: set[str] = set()
        self.stages: set[str] = set()


def build_parser(name: str, signature: Callable[..., Any], examples: str) -> Parser:
    """A parser with one argument per parameter: ``data`` as a word, ``max_steps`` as an option.

    Parameters without a default are positional, but for ``out``, ``labels`` and ``form``, which
    read better with their name. The help of each is its entry in the docstring.

    Args:
        name: Name of the command.
        signature: A function or dataclass with annotated parameters and a Google docstring.
        examples: Command lines that the help ends with.

    Returns:
        The parser, with ``--config FILE`` and ``--debug`` besides.
    """
    documentation = docstring_parser.parse(inspect.getdoc(signature) or "")
    parser = Parser(
        prog=f"agmm {name}",
        description=documentation.short_description,
        epilog="examples:\n" + textwrap.indent(examples.strip(), "  "),
        formatter_class=_Formatter,
        exit_on_error=False,
        default_env=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the options")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    _add_arguments(parser, signature, documentation)
    return parser


class _Formatter(DefaultHelpFormatter):
    """Keeps the lines of the examples, and shows defaults without the types."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return textwrap.indent(text, indent)
        return super()._fill_text(text, width, indent)

    def _expand_help(self, action: argparse.Action) -> str:
        return re.sub(
            r",? ?type: .*?(?=, default: |\)$)", "", super()._expand_help(action)
        ).replace("(, default", "(default")


def _add_arguments(
    parser: Parser,
    signature: Callable[..., Any],
    documentation: docstring_parser.Docstring,
    prefix: str = "",
) -> None:
    """One argument per parameter; a stage's own config becomes ``--stage.option``."""
    texts = {p.arg_name: " ".join((p.description or "").split()) for p in documentation.params}
    hints = typing.get_type_hints(signature)
    for parameter in inspect.signature(signature).parameters.values():
        name, hint = parameter.name, hints[parameter.name]
        if dataclasses.is_dataclass(hint):
            inner = docstring_parser.parse(inspect.getdoc(hint) or "")
            parser.stages.add(name)
            _add_arguments(parser, cast("Callable[..., Any]", hint), inner, f"{prefix}{name}.")
        else:
            _add_argument(parser, parameter, hint, texts[name], prefix)


def _add_argument(
    parser: Parser, parameter: inspect.Parameter, hint: Any, text: str, prefix: str
) -> None:
    required = parameter.default is inspect.Parameter.empty
    named = not required or parameter.name in ("out", "labels", "form")
    flag = f"--{prefix}{parameter.name.replace('_', '-')}" if named else parameter.name
    options: dict[str, Any] = {"help": text.replace("``", "")}
    if required and named:
        options["required"] = True
    if not required:
        options["default"] = _default(parameter.default)
    if hint is bool:
        parser.add_argument(flag, action=ActionYesNo(no_prefix="no-"), **options)
        return
    options.update(_type_options(hint))
    if "nargs" in options:
        parser.lists.add(prefix + parameter.name)
    parser.add_argument(flag, **options)


def _default(value: object) -> object:
    """A default as jsonargparse wants it: several words are a list, which it converts in place."""
    if type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
        return {}  # a dataclass makes it anew for each object; ours are empty dicts
    return list(value) if isinstance(value, tuple) else value


def _type_options(hint: Any) -> dict[str, Any]:
    """How a type is written on the command line: tuples as several words, forms with commas."""
    arguments = get_args(hint)
    if get_origin(hint) is not tuple:
        return {"type": hint}
    if arguments[-1] is not Ellipsis:
        return {"type": arguments[0], "nargs": len(arguments)}
    if get_origin(arguments[0]) is Literal:
        return {"type": comma_separated, "metavar": "|".join(get_args(arguments[0]))}
    return {"type": arguments[0], "nargs": "+"}


def comma_separated(value: str | Sequence[str]) -> list[str]:
    """``a,b`` from the command line, or a list from YAML."""
    return [v.strip() for v in value.split(",")] if isinstance(value, str) else list(value)


def parse(parser: Parser, arguments: Sequence[str]) -> dict[str, Any]:
    """The values of the parameters; an option of the command line goes before any config file.

    Raises:
        CommandError: If the arguments cannot be used; its exit code is 2.
    """
    # jsonargparse lets the later word win, also where that is a file: files come first.
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    files.add_argument("--config", action="append", default=[])
    try:
        found, options = files.parse_known_args(list(arguments))
        for file in found.config:
            _check_config(parser, Path(file))
        configs = [f"--config={file}" for file in found.config]
        values = parser.parse_args([*configs, *options]).as_dict()
    except (ArgumentError, TypeError, ValueError) as error:
        raise CommandError(f"{_plain(str(error))}\nsee '{parser.prog} --help'", 2) from error
    values = {k: v for k, v in values.items() if k not in ("config", "debug")}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


_WORDS = {"int": "a whole number", "float": "a number", "NoneType": "null"}
"""What a value of a type is called in a message."""


def _plain(message: str) -> str:
    """Say in our words that a value is not of its option's type; other messages stay as they are.

    jsonargparse names Python's types, each on a line of its own where there are several.
    """
    told = re.fullmatch(
        r'Parser key "(\S+)"(?: element \d+)?:\s(.*)(?:Got|Given) value: (.*)', message, re.DOTALL
    )
    if told is None:
        return message
    key, expected, value = told.groups()
    if choices := re.search(r"Expected a typing\.Literal\[(.*?)\]", expected):
        wanted = "one of " + choices[1].replace("'", "")
    else:
        types_ = re.findall(r"Expected a <class '(\w+)'>", expected)
        if not types_ or not _WORDS.keys() >= set(types_):
            return message
        wanted = " or ".join(_WORDS[name] for name in types_)
    return f"{key}: expected {wanted}, got {value!r}"


def _check_config(parser: Parser, file: Path) -> None:
    """Name the option that is one word in a file where it must be more.

    jsonargparse does not tell which one is no list, and passes over a stage that is no mapping.

    Raises:
        ConfigError: If there is such an option, or the file cannot be read.
    """
    values = read_yaml(file)
    for stage in sorted(parser.stages):
        if not isinstance(values.get(stage, {}), dict):
            raise ConfigError(
                f"{file}: {stage}: expected a mapping of options, got {values[stage]!r}"
            )
    for name in sorted(parser.lists):
        stage, _, option = name.rpartition(".")
        value = (values.get(stage, {}) if stage else values).get(option, [])
        if not isinstance(value, list):
            raise ConfigError(f"{file}: {name}: expected a list such as [a, b], got {value!r}")


def recipe_words(name: str) -> list[str]:
    """A recipe as words in front of the command line: the first of its config files.

    Raises:
        ConfigError: If there is no such recipe, or it has an unknown key.
    """
    path = recipe_path(name)
    known = inspect.signature(TrainConfig).parameters
    if unknown := [key for key in read_yaml(path) if key not in known]:
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    return ["--config", str(path)]


def run_command(module: types.ModuleType, name: str, arguments: Sequence[str]) -> int:
    """Run the ``main`` of a command's module and turn errors into exit codes.

    Raises:
        CommandError: If the input or the arguments are at fault.
    """
    debug = "--debug" in arguments
    try:
        module.main(name, [a for a in arguments if a != "--debug"])
    except (AgmmError, OSError) as error:  # OSError: a full disk, a folder without permission
        if debug:
            traceback.print_exc()
        raise CommandError(str(error), 2 if isinstance(error, ConfigError) else 1) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if debug:
            traceback.print_exc()
        raise CommandError(out_of_memory_told(name, error), 1) from error
    except KeyboardInterrupt as error:
        raise CommandError("stopped", 130) from error
    except SystemExit as done:  # --help
        sys.stdout.flush()
        return int(done.code or 0)
    return 0
