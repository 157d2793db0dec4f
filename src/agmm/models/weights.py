"""Encoder weights: where they come from, safe reading, and matching by name.

Encoders call the same tensor by different names: timm's feature extractors flatten
``stages.0.`` to ``stages_0.``, segmentation-models-pytorch puts ``model.`` in front, checkpoints
add ``state_dict``, ``module.`` or ``model.encoder.``. Everything is matched by what stays.
"""

import os
import pickle
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from agmm.errors import WeightsError

WEIGHTS_VARIABLE = "AGMM_WEIGHTS"
"""Environment variable with the folder that ``imagenet`` looks in before it asks the hub."""

_COUNTER = "num_batches_tracked"  # a statistic of BatchNorm that old checkpoints do not have


@dataclass(frozen=True)
class WeightsReport:
    """What became of every tensor of an encoder and of its weights file.

    Attributes:
        source: The file, the hub's model, or ``"none"``.
        matched: The encoder's tensors that were filled.
        missing: The encoder's tensors that the source does not have; they stay random.
        unexpected: The source's tensors beside the matched ones that the encoder has no place for,
            for example the classification head.
        mismatched: Tensors of the same name and another shape, with both shapes; they stay random.

    Example:
        >>> print(WeightsReport("none"))
        encoder weights: none (random initialisation)
    """

    source: str
    matched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.source == "none":
            return "encoder weights: none (random initialisation)"
        lines = [f"encoder weights: {self.source}: {len(self.matched)} tensors matched"]
        for title, names in (
            ("missing, left random", self.missing),
            ("other shape, left random", self.mismatched),
            ("in the source only", self.unexpected),
        ):
            if names:
                lines.append(f"  {len(names)} {title}: {_some(names)}")
        return "\n".join(lines)


def load_encoder_weights(encoder: nn.Module, source: str, name: str) -> WeightsReport:
    """Fill an encoder in place from ``imagenet``, from a file, or not at all.

    Args:
        encoder: The encoder of a segmentation-models-pytorch model.
        source: ``"none"``; ``"imagenet"``, which looks for ``$AGMM_WEIGHTS/<name>.safetensors`` and
            then asks the hub; or the path of a ``.safetensors``, ``.pth``, ``.pt`` or ``.ckpt``
            file: a classification checkpoint, or a checkpoint that contains this encoder.
        name: The encoder's name, as given to `build_segmenter`.

    Returns:
        What was matched and what was not.

    Raises:
        WeightsError: If the weights cannot be found, cannot be read safely, or fit less than half
            of the encoder.

    Example:
        >>> print(load_encoder_weights(nn.Linear(2, 2), "none", "linear"))
        encoder weights: none (random initialisation)
    """
    if source == "none":
        return WeightsReport("none")
    if source != "imagenet":
        return fill(encoder, read_tensors(Path(source)), source)
    local = _local_file(name)
    if local is not None:
        return fill(encoder, read_tensors(local), str(local))
    return fill(encoder, _hub_tensors(name), f"hub, {name}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a weights file without running any code in it.

    Args:
        path: A ``.safetensors`` file, or one written by ``torch.save`` (any other suffix). Nested
            dictionaries such as ``{"state_dict": ...}`` are opened; what is no tensor is left out.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        WeightsError: If the file is missing, damaged, holds pickled objects, or has no tensors.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "weights.pth"
        >>> torch.save({"state_dict": {"weight": torch.ones(2)}}, path)
        >>> read_tensors(path)
        {'weight': tensor([1., 1.])}
    """
    if not path.is_file():
        raise WeightsError(
            f"encoder weights: expected 'imagenet', 'none' or a file, but there is no file {path}; "
            f"check the path"
        )
    tensors = _unnested(_load(path))
    if not tensors:
        raise WeightsError(
            f"{path}: expected a dictionary of named tensors (a state dict), found none; "
            f"save the model's state_dict() to this file"
        )
    return tensors


def fill(encoder: nn.Module, tensors: Mapping[str, Tensor], source: str) -> WeightsReport:
    """Copy the tensors that fit into an encoder, whatever prefix their names carry.

    The prefix in front of the encoder's names is the one that most tensors share.

    Args:
        encoder: The encoder; its parameters and buffers are overwritten.
        tensors: Tensors by name.
        source: What to call them in the report.

    Returns:
        What was matched and what was not.

    Raises:
        WeightsError: If less than half of the encoder's tensors are matched.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> report = fill(layer, {"module.weight": torch.ones(1, 2)}, "hand")
        >>> report.matched, report.missing
        (('weight',), ('bias',))
    """
    targets = {_flat(key.removeprefix("model.")): (key, t) for key, t in _state(encoder).items()}
    prefix = _shared_prefix(tensors, targets.keys())
    offered = {_flat(k.removeprefix(prefix)): k for k in tensors if k.startswith(prefix)}
    matched, missing, mismatched = [], [], []
    for flat, (key, target) in targets.items():
        if flat not in offered:
            missing.append(key)
            continue
        tensor = tensors[offered[flat]]
        if tensor.shape != target.shape:
            mismatched.append(f"{key} {tuple(tensor.shape)} for {tuple(target.shape)}")
            continue
        matched.append(flat)
    _check_enough(matched, targets, tensors, source)
    for flat in matched:
        targets[flat][1].copy_(tensors[offered[flat]])
    return WeightsReport(
        source=source,
        matched=tuple(targets[flat][0] for flat in matched),
        missing=_weights_only(missing),
        unexpected=_weights_only(key for flat, key in offered.items() if flat not in targets),
        mismatched=tuple(mismatched),
    )


def _state(encoder: nn.Module) -> dict[str, Tensor]:
    """The encoder's parameters and buffers; they share its memory and carry no gradient."""
    return dict(encoder.state_dict())


def _flat(key: str) -> str:
    """The name without the difference between ``stages.0.`` and ``stages_0.``."""
    return key.replace(".", "_")


def _shared_prefix(keys: Iterable[str], wanted: Iterable[str]) -> str:
    """The prefix after which most of the keys are wanted names, ``""`` if none is."""
    names = frozenset(wanted)
    votes: Counter[str] = Counter()
    for key in keys:
        parts = key.split(".")
        for start in range(len(parts)):
            if "_".join(parts[start:]) in names:
                votes["".join(f"{part}." for part in parts[:start])] += 1
    return votes.most_common(1)[0][0] if votes else ""


def _check_enough(
    matched: list[str],
    targets: Mapping[str, tuple[str, Tensor]],
    tensors: Mapping[str, Tensor],
    source: str,
) -> None:
    needed, found = _weights_only(targets), _weights_only(matched)
    if 2 * len(found) >= len(needed):
        return
    raise WeightsError(
        f"{source}: expected weights of this encoder, but only {len(found)} of its {len(needed)} "
        f"tensors match; the encoder has {_some([targets[flat][0] for flat in needed])}; the file "
        f"has {_some(tensors)}; give the weights of the same architecture, or "
        f"--encoder-weights none"
    )


def _weights_only(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not name.endswith(_COUNTER))


def _some(names: Iterable[str], at_most: int = 3) -> str:
    every = list(names)
    rest = len(every) - at_most
    return ", ".join(every[:at_most]) + (f" and {rest} more" if rest > 0 else "")


def _load(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Of a newer pickle protocol it reads what it can and raises at what it cannot.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: expected a file of nothing but tensors; this one is damaged or holds "
            f"Python objects, whose loading could run any code, and was not loaded; if you "
            f"trust it, convert it with safetensors.torch.save_file(model.state_dict(), ...)"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path}: expected a whole file written by safetensors or torch.save; it cannot be "
            f"read ({_first_line(error)}); copy or download it again"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _unnested(content: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint: its own, or those of the first dictionary in it with any."""
    if not isinstance(content, Mapping):
        return {}
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    inner = (_unnested(value) for value in content.values())
    return tensors or next((found for found in inner if found), {})


def _local_file(name: str) -> Path | None:
    folder = os.environ.get(WEIGHTS_VARIABLE)
    path = Path(folder or "", f"{name}.safetensors")
    return path if folder and path.is_file() else None


def _hub_tensors(name: str) -> dict[str, Tensor]:
    try:
        return dict(_hub_model(name).state_dict())
    except Exception as error:  # every client of the hub has errors of its own
        folder = os.environ.get(WEIGHTS_VARIABLE)
        looked = f"{WEIGHTS_VARIABLE} is {f'{folder}, without this file' if folder else 'not set'}"
        raise WeightsError(
            f"--encoder-weights imagenet: no weights for the encoder {name!r}: {looked}, and the "
            f"hub gives none ({type(error).__name__}: {_first_line(error)}); set "
            f"{WEIGHTS_VARIABLE} to a folder that contains {name}.safetensors, or connect to the "
            f"network, or give --encoder-weights none or --encoder-weights FILE"
        ) from error


def _hub_model(name: str) -> nn.Module:
    """The pretrained network that timm, or else segmentation-models-pytorch, has of this name."""
    import timm
    from segmentation_models_pytorch.encoders import encoders, get_encoder

    model: nn.Module
    if timm.is_model(name):
        _check_hub(getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None))
        model = timm.create_model(name, pretrained=True)
    else:
        published = encoders[name]["pretrained_settings"]["imagenet"]
        _check_hub(published["repo_id"], published["revision"])
        model = get_encoder(name, weights="imagenet")
    return model


def _check_hub(repository: str | None, revision: str | None = None) -> None:
    """Raise within seconds if the hub cannot be reached; its downloads retry for a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if repository is None:  # older weights of timm lie at an address of their own
        return
    cached = try_to_load_from_cache(repository, "model.safetensors", revision=revision)
    if not isinstance(cached, str):
        get_hf_file_metadata(hf_hub_url(repository, "config.json", revision=revision), timeout=10)
