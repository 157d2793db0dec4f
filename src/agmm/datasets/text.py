"""Small text files of a data set: UTF-8, and of a size that fits into memory."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from agmm.errors import DataError

MAX_BYTES = 256 * 2**20
"""The largest file that is read as a whole: the clicks of some five million objects."""


_SPACE = re.compile(r"[ \t\n\r]*")


def read_text(
    path: Path,
    *,
    missing: str = "Correct the path.",
    latin: bool = False,
    limit: int = MAX_BYTES,
) -> str:
    r"""Read a text file; a byte order mark is left out.

    Args:
        path: The file, in UTF-8.
        missing: What to do if there is no such file, for the message.
        latin: Take what is not UTF-8 as Latin-1, as old data sets were written.
        limit: The most bytes that it may have.

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
        data = path.read_bytes() if size <= limit else b""
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file. {missing}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Correct the file.") from error
    if size > limit:
        raise DataError(
            f"{path}: has {size} bytes, but at most {limit} are read. Split the data set, or"
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
    text, decoder = read_text(path, latin=latin), _decoder(path)
    try:
        content: object = decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}). Export it again.") from error
    return content


def read_json_members(path: Path, *, limit: int) -> Iterator[tuple[str, object, str]]:
    """Read a JSON file that is one object, member by member; a list of these by its elements.

    So the values of a large file need not be in memory all at once, which would take several times
    the size of the file.

    Args:
        path: The file, in UTF-8.
        limit: The most bytes that it may have.

    Yields:
        Key, value and the value's text; where the value is a list, these of each of its elements
        with the key of the list, and nothing for an empty one.

    Raises:
        DataError: As for `read_json`, or the file is no object.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.json"
        >>> _ = path.write_text('{"a": [1, {"b": 2}], "c": null}')
        >>> list(read_json_members(path, limit=99))
        [('a', 1, '1'), ('a', {'b': 2}, '{"b": 2}'), ('c', None, 'null')]
    """
    try:
        yield from _members(read_text(path, limit=limit), _decoder(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}). Export it again.") from error


def _members(text: str, decoder: json.JSONDecoder) -> Iterator[tuple[str, object, str]]:
    at = _after(text, 0, "{")
    known: set[str] = set()
    while text[at : at + 1] != "}":
        key, at = decoder.raw_decode(text, at)
        if not isinstance(key, str) or key in known:
            raise ValueError(f"the key {shown(key)} is there twice or is no text")
        known.add(key)
        at = _after(text, at, ":")
        is_list = text[at : at + 1] == "["
        at = _after(text, at, "[") if is_list else at
        while not is_list or text[at : at + 1] != "]":
            value, end = decoder.raw_decode(text, at)
            yield key, value, text[at:end]
            at = end
            if not is_list:
                break
            at = _next(text, at, "]")
        at = _next(text, at + is_list, "}")
    if _after(text, at, "}") != len(text):
        raise ValueError(f"more text after the object, from character {at + 1} on")


def _after(text: str, at: int, sign: str) -> int:
    """Go over a sign and the space round it."""
    at = _space(text, at)
    if text[at : at + 1] != sign:
        raise ValueError(f"expected {sign!r} at character {at}")
    return _space(text, at + 1)


def _next(text: str, at: int, closing: str) -> int:
    """Go over a comma, to what must follow it, or up to the closing sign."""
    at = _space(text, at)
    if text[at : at + 1] == closing:
        return at
    at = _after(text, at, ",")
    if text[at : at + 1] == closing:
        raise ValueError(f"a comma before {closing!r} at character {at}")
    return at


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _decoder(path: Path) -> json.JSONDecoder:
    """Decode more strictly than Python does."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
            raise DataError(f"{path}: the key {twice!r} is there twice. Keep one of them.")
        return found

    def refuse(constant: str) -> NoReturn:
        raise DataError(f"{path}: has {constant}, which is no number of JSON. Correct it.")

    return json.JSONDecoder(object_pairs_hook=unique, parse_constant=refuse)


def counted(number: int, word: str) -> str:
    """Put a number before a word.

    Args:
        number: How many there are.
        word: One of them; several have an "s".

    Returns:
        Both.

    Example:
        >>> counted(1, "fault"), counted(2000, "file")
        ('1 fault', '2,000 files')
    """
    return f"{number:,} {word}{'' if number == 1 else 's'}"


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
