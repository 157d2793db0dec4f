"""Small text files of a data set: UTF-8, and of a size that fits into memory."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from agmm.errors import DataError

MAX_BYTES = 256 * 2**20
"""The largest file that is read as a whole: the clicks of some five million objects."""


def read_text(path: Path, *, missing: str = "Correct the path.", latin: bool = False) -> str:
    r"""Read a text file; a byte order mark is left out.

    Args:
        path: The file, in UTF-8, of at most `MAX_BYTES`.
        missing: What to do if there is no such file, for the message.
        latin: Take what is not UTF-8 as Latin-1, as old data sets were written.

    Returns:
        The text, its line ends as they are.

    Raises:
        DataError: Missing, too large, or not UTF-8.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.txt"
        >>> _ = path.write_bytes(b"\xef\xbb\xbfa note")
        >>> read_text(path)
        'a note'
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_BYTES else b""
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file. {missing}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Correct the file.") from error
    if size > MAX_BYTES:
        raise DataError(
            f"{path}: has {size} bytes, but at most {MAX_BYTES} are read. Split the data set, or"
            " see whether this is the right file."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if latin:
            return data.decode("latin-1")
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: is not UTF-8 (byte 0x{data[error.start]:02x}). Save the file as"
            " UTF-8."
        ) from error


def read_json(path: Path, *, latin: bool = False) -> object:
    """Read a JSON file, more strictly than Python does.

    Args:
        path: The file, in UTF-8, of at most `MAX_BYTES`.
        latin: Take what is not UTF-8 as Latin-1, as old data sets were written.

    Returns:
        What it holds: objects as dict, arrays as list.

    Raises:
        DataError: Missing, too large, no JSON, nested too deeply, a key that is twice in one
            object, or NaN and Infinity, which are no numbers of JSON.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.json"
        >>> _ = path.write_text('{"a": [1, 2.5]}')
        >>> read_json(path)
        {'a': [1, 2.5]}
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
            raise DataError(f"{path}: the key {twice!r} is there twice. Keep one of them.")
        return found

    def refuse(constant: str) -> NoReturn:
        raise DataError(f"{path}: has {constant}, which is no number of JSON. Correct it.")

    try:
        content: object = json.loads(
            read_text(path, latin=latin), object_pairs_hook=unique, parse_constant=refuse
        )
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}). Export it again.") from error
    return content


def shown(value: object) -> str:
    """Show a value in a message, cut off where it is long.

    Args:
        value: What `read_json` gave, or a part of it.

    Returns:
        JSON of at most 61 characters.

    Example:
        >>> shown([1, None])
        '[1, null]'
    """
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
