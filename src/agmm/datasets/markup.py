"""XML of labelling tools, parsed within bounds."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from agmm.datasets.listing import list_files
from agmm.datasets.text import MAX_BYTES
from agmm.errors import DataError


def list_xml(root: Path) -> dict[str, Path]:
    """List the XML files in and below a folder.

    Args:
        root: The data set's folder.

    Returns:
        Path without suffix, such as "task1/annotations", to file: first those in the folder itself,
        then those below; sorted. Those in ``scribblesup/`` are not among them, as they may lie
        beside any layout.

    Raises:
        DataError: A link to a folder above it.

    Example:
        >>> list_xml(Path("a/folder/that/is/missing"))
        {}
    """
    found = list_files(root, (".xml",))
    own = [(path, file) for path, file in found.items() if not path.startswith("scribblesup/")]
    return dict(sorted(own, key=lambda entry: ("/" in entry[0], entry[1])))


def read_xml(path: Path, *, limit: int = MAX_BYTES) -> Element:
    r"""Parse an XML file; nothing in it is expanded or fetched.

    Args:
        path: The file.
        limit: How many bytes it may have.

    Returns:
        Its root element.

    Raises:
        DataError: Missing, too large, no XML, or one with entities.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.xml"
        >>> _ = path.write_text("<note>1</note>")
        >>> read_xml(path).tag
        'note'
    """
    try:
        if path.stat().st_size > limit:
            raise DataError(f"{path}: is larger than {limit} bytes. Split the export.")
        root: Element = ElementTree.fromstring(path.read_bytes())
    except (ParseError, DefusedXmlException, ValueError, LookupError, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as XML ({error}). It may be truncated, or have entities,"
            " which are refused: export it again."
        ) from error
    return root


def root_tag(path: Path) -> str:
    """Tell the root element of an XML file by its start; the rest is not read.

    Args:
        path: The file.

    Returns:
        Its tag; "" if the file starts otherwise than XML.

    Example:
        >>> root_tag(Path("a/missing/file.xml"))
        ''
    """
    try:
        with path.open("rb") as file:
            for _, element in ElementTree.iterparse(file, events=("start",)):
                return str(element.tag)
    except (ParseError, DefusedXmlException, ValueError, LookupError, OSError):
        return ""
    return ""


def text_of(element: Element, path: str) -> str:
    """Give the text of an element below, stripped; "" if there is none.

    Args:
        element: Where to look.
        path: The tags that lead there, such as "size/width".

    Returns:
        The text.

    Example:
        >>> text_of(ElementTree.fromstring("<a><b> c </b></a>"), "b")
        'c'
    """
    return (element.findtext(path) or "").strip()


def whole(text: str | None) -> int | None:
    """Read a whole number of pixels.

    Args:
        text: As it stands in the file.

    Returns:
        The number, 0..999,999,999; None if it is none.

    Example:
        >>> whole("12"), whole("1e9"), whole(None)
        (12, None, None)
    """
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
