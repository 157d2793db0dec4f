"""Configs as plain values, and the YAML files that hold them."""

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from agmm.config.pseudo import PseudoConfig
from agmm.config.seeds import CamConfig, ClassifierConfig, GrabCutConfig
from agmm.config.train import TrainConfig
from agmm.errors import ConfigError

STAGES: dict[str, type] = {
    "classifier": ClassifierConfig,
    "cam": CamConfig,
    "grabcut": GrabCutConfig,
    "pseudo": PseudoConfig,
}
"""Fields of `TrainConfig` that are configs of their own."""

_PSEUDO = "pseudo:"
"""What a source of pseudo labels is marked with among the labels."""


def as_plain(config: TrainConfig) -> dict[str, Any]:
    """The config as YAML and JSON can hold it: paths as strings, tuples as lists."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(config))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(values: Mapping[str, Any]) -> TrainConfig:
    """The inverse of :func:`as_plain`.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is out of its range.
    """
    given = dict(values)
    for name in given.keys() & {"data", "out"}:
        given[name] = _as_path(name, given[name])
    if given.get("mapping") is not None:
        given["mapping"] = _as_path("mapping", given["mapping"])
    folders = given.get("seeds", ())
    if not isinstance(folders, list | tuple):
        raise ConfigError(f"seeds: expected a list of folders, got {folders!r}")
    given["seeds"] = tuple(_as_path("seeds", path) for path in folders)
    _name_source(given)
    for name, stage in STAGES.items():
        options = given.get(name, {})
        if not isinstance(options, Mapping):
            raise ConfigError(f"{name}: expected a mapping of options, got {options!r}")
        given[name] = _build(stage, options, f"{name}.")
    return _build(TrainConfig, given)


def read_config(path: Path) -> TrainConfig:
    """The config that a run has written.

    Raises:
        ConfigError: If the file cannot be read, or holds no config; it names the file.
    """
    values = read_yaml(path)
    try:
        return from_plain(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def with_full_paths(config: TrainConfig) -> TrainConfig:
    """Name seeds and pseudo labels by full paths, as a run may be used from any working directory.

    Args:
        config: A training's config.

    Returns:
        The same, with absolute ``seeds`` and ``pseudo.source``.
    """
    source = config.pseudo.source
    return dataclasses.replace(
        config,
        seeds=tuple(path.resolve() for path in config.seeds),
        pseudo=dataclasses.replace(config.pseudo, source=source and source.resolve()),
    )


def _name_source(given: dict[str, Any]) -> None:
    """Turn the ``pseudo:RUN`` among the labels into ``pseudo.source``."""
    options = given.get("pseudo", {})
    if not isinstance(options, Mapping):
        return  # reported with the other stages
    options = dict(options)
    if options.get("source") is not None:
        options["source"] = _as_path("pseudo.source", options["source"])
    words = given.get("labels")
    if isinstance(words, list | tuple):
        named = [w for w in words if isinstance(w, str) and w.startswith(_PSEUDO)]
        sources = {Path(word.removeprefix(_PSEUDO)) for word in named}
        sources |= {options["source"]} if named and options.get("source") else set()
        if len(sources) > 1 or _PSEUDO in named:
            raise ConfigError(
                f"labels: expected at most one {_PSEUDO}RUN, with a folder, got {', '.join(named)}"
            )
        if sources:
            options["source"] = sources.pop()
            given["labels"] = tuple(word for word in words if word not in named)
    given["pseudo"] = options


T = TypeVar("T")


def _build(kind: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """A config from plain values; every key must be known, and lists become tuples."""
    known = inspect.signature(kind).parameters
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(
            f"unknown config key {prefix + unknown[0]!r}; known keys: {', '.join(sorted(known))}"
        )
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return kind(**given)
    except TypeError as error:
        raise ConfigError(f"incomplete config: {error}") from error


def _as_path(name: str, value: object) -> Path:
    if not isinstance(value, str | Path):
        raise ConfigError(f"{name}: expected a path, got {value!r}")
    return Path(value)


def recipe_path(name: str) -> Path:
    """The YAML file of a recipe, given its name or its own path.

    Raises:
        ConfigError: If there is no such recipe or file; the message lists the names there are.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"--recipe: no file {path}")
        return path
    folder = _recipe_folder()
    path = folder / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"--recipe: no recipe {name!r}; there are: {names}; or give a .yaml file")
    return path


def _recipe_folder() -> Path:
    """``recipes/`` inside an installed package, or beside ``src/`` in a checkout."""
    installed = Path(__file__).parents[1] / "recipes"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "recipes"


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping.

    Raises:
        ConfigError: If the file cannot be read, is no YAML, or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a readable YAML file: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: expected a mapping of option names, got {type(values).__name__}"
        )
    return values
