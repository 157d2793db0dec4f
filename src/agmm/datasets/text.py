"""Small text files of a data set: UTF-8, and of a size that fits into memory."""

from pathlib import Path

from agmm.errors import DataError

MAX_BYTES = 256 * 2**20
"""The largest file that is read as a whole: the clicks of some five million objects."""


def read_text(path: Path, *, missing: str = "Correct the path.") -> str:
    r"""Read a text file; a byte order mark is left out.

    Args:
        path: The file, in UTF-8, of at most `MAX_BYTES`.
        missing: What to do if there is no such file, for the message.

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
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: is not UTF-8 (byte 0x{data[error.start]:02x}). Save the file as"
            " UTF-8."
        ) from error
