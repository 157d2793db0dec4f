"""Writing files so that a reader never meets half of one."""

import contextlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is renamed to ``path``.

    The parent folder is made. If the block raises, the temporary file is removed and what was
    at ``path`` before stays as it was.

    Args:
        path: Where the finished file shall be. The temporary name keeps its suffix.

    Yields:
        The path to write to, in the same folder and so on the same file system.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a" / "note.txt"
        >>> with written_atomically(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, or none of it."""
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a mapping as indented JSON; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")
