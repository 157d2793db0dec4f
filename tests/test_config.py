import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from agmm.config import (
    METHODS,
    CamConfig,
    ClassifierConfig,
    GrabCutConfig,
    PseudoConfig,
    TrainConfig,
    as_plain,
    from_plain,
    read_config,
    read_yaml,
    recipe_path,
)
from agmm.errors import ConfigError

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def config(**values: Any) -> TrainConfig:
    options: dict[str, Any] = {"data": Path("d"), "out": Path("o"), "labels": ("points",)}
    return TrainConfig(**{**options, **values})


POSITIVE = ("image_scale", "lr")
COUNTS = ("batch_size", "accumulate", "epochs", "val_every", "devices", "num_nodes")
AT_LEAST_0 = ("encoder_lr_factor", "weight_decay", "clip_norm")
SHARES = ("color_jitter", "warmup")
FLAGS = ("complete_labels", "skip_bad", "clip_boxes", "resume")
WORDS = ("encoder", "encoder_weights", "decoder")
CHOICES = ("format", "method", "optimizer", "precision", "accelerator")


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, value) for name in POSITIVE for value in (0, -1.0, math.nan, math.inf, "1", None)),
        *((name, value) for name in COUNTS for value in (0, -1, 1.5, "2", None, True)),
        *((name, value) for name in AT_LEAST_0 for value in (-0.1, math.nan, math.inf, "0")),
        *((name, value) for name in ("workers", "overlays") for value in (-1, 0.5, "0", False)),
        *((name, value) for name in SHARES for value in (-0.1, 1.1, math.nan, "0")),
        *((name, value) for name in CHOICES for value in ("other", "", None, 1)),
        *(("ema_decay", value) for value in (-0.1, 1.0, math.nan)),
        *(("max_steps", value) for value in (0, -1, 2.5, "3")),
        *(("seed", value) for value in (-1, 2**32, 0.5, None)),
        *(("crop", value) for value in ((0, 5), (5, -1), (5,), (5, 5, 5), (2.5, 4), 5)),
        *(("scale", value) for value in ((0, 1), (2, 1), (1,), (1, math.inf), (1, math.nan), 1)),
        *(("labels", value) for value in ((), ("clicks",), ("points", "box"), "points")),
        ("labels", ("points", "boxes", "points")),
        *((name, value) for name in FLAGS for value in ("false", 0, None)),
        *((name, value) for name in WORDS for value in ("", 5, None)),
        ("objective", None),
        ("objective", ["mutual"]),
        ("objective", {"mutual": None}),
        *(("data", value) for value in ("folder", None)),
        *(("out", value) for value in ("folder", None)),
        *(("seeds", value) for value in ("folder", None, ("folder",), Path("folder"))),
    ],
)
def test_an_unusable_value_is_refused_by_the_name_of_its_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{field}: expected .*, got "):
        config(**{field: value})


def test_the_smallest_and_largest_values_are_accepted() -> None:
    values: dict[str, Any] = {
        "color_jitter": 1.0,
        "warmup": 0.0,
        "ema_decay": 0.0,
        "weight_decay": 0.0,
        "workers": 0,
        "overlays": 0,
        "seed": 2**32 - 1,
        "max_steps": 1,
        "crop": (1, 1),
        "scale": (0.5, 0.5),
        "labels": ("points", "scribbles", "blocks", "boxes", "tags", "dense"),
        "seeds": (Path("a"), Path("b")),
    }

    result = config(**values)

    assert {name: getattr(result, name) for name in values} == values


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("labels", ["points", 5])
def test_labels_that_are_no_tuple_are_told_as_they_were_given(labels: object) -> None:
    with pytest.raises(ConfigError, match=rf"^labels: expected a tuple .*, got {labels!r}$"):
        config(labels=labels)


@pytest.mark.parametrize("labels", [("points",), ("dense", "points")])
def test_the_method_dense_refuses_sparse_labels(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^method: dense .* got labels .*points"):
        config(method="dense", labels=labels)


def test_the_method_dense_refuses_pseudo_labels() -> None:
    source = PseudoConfig(source=Path("runs/first"))
    with pytest.raises(ConfigError, match=r"got labels pseudo:runs/first; give --labels dense"):
        config(method="dense", labels=(), pseudo=source)
    with pytest.raises(ConfigError, match=r"got labels dense,pseudo:runs/first; "):
        config(method="dense", labels=("dense",), pseudo=source)


def test_a_config_that_cannot_be_used_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("data: photos\nout: run\nlabels: [points]\nwarm_up: 0\n")
    with pytest.raises(ConfigError, match=rf"^{file}: unknown config key 'warm_up'; known keys: "):
        read_config(file)
    file.write_text("data: photos\nout: run\nlabels: [points]\nwarmup: 0.5\n")
    assert read_config(file).warmup == 0.5


def test_the_method_dense_takes_dense_labels() -> None:
    assert config(method="dense", labels=("dense",)).method == "dense"


@pytest.mark.parametrize("method", [m for m in METHODS if m != "dense"])
def test_every_other_method_takes_every_form(method: str) -> None:
    assert config(method=method, labels=("blocks", "dense")).method == method


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().lr = 1.0  # type: ignore[misc]


def test_a_config_comes_back_from_yaml_as_it_was() -> None:
    original = config(
        data=Path("/some/where"),
        labels=("points", "blocks"),
        crop=(64, 96),
        scale=(0.5, 1.5),
        max_steps=7,
        objective={"mutual": 0.2, "network_prior": False},
        seeds=(Path("first"), Path("second")),
        classifier=ClassifierConfig(encoder="resnet18", crop=(64, 96)),
        cam=CamConfig(scales=(1.0, 2.0), flip=False),
        grabcut=GrabCutConfig(iterations=3),
    )

    text = yaml.safe_dump(as_plain(original))

    assert from_plain(yaml.safe_load(text)) == original


def test_every_field_is_in_the_plain_form() -> None:
    plain = as_plain(config())

    assert list(plain) == [field.name for field in dataclasses.fields(TrainConfig)]
    assert plain["data"] == "d"
    assert plain["labels"] == ["points"]


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'learning_rate'; known keys: .*\blr\b"):
        from_plain({**as_plain(config()), "learning_rate": 1.0})


@pytest.mark.parametrize("key", ["data", "out", "labels"])
def test_a_missing_key_is_refused(key: str) -> None:
    plain = as_plain(config())
    del plain[key]

    with pytest.raises(ConfigError, match=f"incomplete config: .*'{key}'"):
        from_plain(plain)


@pytest.mark.usefixtures("without_type_checks")
def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^lr: expected a positive number, got '1e-3'"):
        from_plain({**as_plain(config()), "lr": "1e-3"})
    with pytest.raises(ConfigError, match=r"^data: expected a path, got None"):
        from_plain({**as_plain(config()), "data": None})
    with pytest.raises(ConfigError, match=r"^seeds: expected a path, got 1"):
        from_plain({**as_plain(config()), "seeds": [1]})
    for folders in ("folder", None):
        with pytest.raises(ConfigError, match=r"^seeds: expected a list of folders, got "):
            from_plain({**as_plain(config()), "seeds": folders})
    with pytest.raises(ConfigError, match=r"^cam: expected a mapping of options, got 3"):
        from_plain({**as_plain(config()), "cam": 3})


def test_an_unknown_option_of_a_stage_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'cam\.steps'; known keys: .*\bscales\b"):
        from_plain({**as_plain(config()), "cam": {"steps": 3}})


def test_there_are_recipes() -> None:
    assert RECIPES


def test_a_recipe_can_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("lr: 1.0\n")

    assert recipe_path(str(path)) == path


def test_an_unknown_recipe_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_path("nothing")

    assert "'nothing'" in str(caught.value)
    for path in RECIPES:
        assert path.stem in str(caught.value)


def test_a_missing_recipe_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--recipe: no file .*mine\.yaml"):
        recipe_path(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1, 2]", "expected a mapping of option names, got list"),
        (b"", "expected a mapping of option names, got NoneType"),
        (b"a: [", "not a readable YAML file"),
        (b"a: \xff\xfe", "not a readable YAML file"),
        (b"!!python/object/apply:os.getcwd []", "not a readable YAML file"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_by_its_name(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=reason) as caught:
        read_yaml(path)

    assert str(path) in str(caught.value)


def test_a_missing_yaml_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: not a readable YAML file"):
        read_yaml(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("labels", "options", "forms", "source"),
    [
        (["pseudo:runs/first"], {}, (), "runs/first"),
        (["scribbles", "pseudo:a:b"], {}, ("scribbles",), "a:b"),
        (["tags"], {"source": "out"}, ("tags",), "out"),
        (["pseudo:out"], {"source": "out"}, (), "out"),
    ],
)
def test_pseudo_labels_are_named_among_the_labels(
    labels: list[str], options: dict[str, Any], forms: tuple[str, ...], source: str
) -> None:
    plain = {"data": "d", "out": "o", "labels": labels, "pseudo": {**options, "threshold": 0.5}}

    result = from_plain(plain)

    assert result.labels == forms
    assert result.pseudo == PseudoConfig(source=Path(source), threshold=0.5)
    assert from_plain(yaml.safe_load(yaml.safe_dump(as_plain(result)))) == result


@pytest.mark.parametrize(
    ("labels", "pseudo"),
    [
        (["pseudo:a", "pseudo:b"], {}),
        (["pseudo:"], {}),
        (["pseudo:a"], {"source": "b"}),
    ],
)
def test_there_is_one_source_of_pseudo_labels(labels: list[str], pseudo: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="labels: expected at most one pseudo:RUN"):
        from_plain({"data": "d", "out": "o", "labels": labels, "pseudo": pseudo})


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("field", "value"),
    [("source", "run"), ("checkpoint", "first"), ("threshold", 1.5), ("threshold", "0.5")],
)
def test_an_unusable_option_of_pseudo_labels_is_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^pseudo\.{field}: expected .*, got "):
        PseudoConfig(**{field: value})  # type: ignore[arg-type]
