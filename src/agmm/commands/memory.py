"""Too little memory, told with what a command can do about it."""

import re
from collections.abc import Mapping

_TILES = "lower --tile, give --batch-size 1 where there is such an option, or fewer --scales"
_REMEDIES: Mapping[str, str] = {
    "train": (
        "lower --batch-size (--accumulate keeps the pictures of a step), --crop or --image-scale;"
        " where it came at the end, repeat the command with --resume --overlays 0"
    ),
    "evaluate": _TILES,
    "predict": _TILES,
    "label": (
        "label takes a whole picture at once: give --device cpu, or label smaller pictures, with a"
        " run of a lower --image-scale"
    ),
}
_SIGNS = ("out of memory", "DefaultCPUAllocator", "can't allocate memory")
"""What torch says on a GPU and on a CPU, where it is a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory could not be allocated.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
        True
        >>> is_out_of_memory(RuntimeError("shapes do not fit"))
        False
    """
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)


def out_of_memory_told(name: str, error: BaseException) -> str:
    """Say that a command needs more memory than there is, and what helps.

    Args:
        name: The command.
        error: What was raised.

    Returns:
        The message, with how much was asked for where the exception says it.

    Example:
        >>> error = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        >>> out_of_memory_told("predict", error)[:51]
        'too little memory (tried to allocate 2.00 GiB): low'
    """
    found = re.search(r"ried to allocate ([\d.]+ \w+)", str(error))
    asked = f" (tried to allocate {found[1]})" if found else ""
    return f"too little memory{asked}: {_REMEDIES.get(name, 'use smaller pictures')}"
