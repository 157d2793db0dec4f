"""Plain progress bars."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress


@contextlib.contextmanager
def progress_bar(what: str, console: Console) -> Iterator[Callable[[float, float], None]]:
    """A bar that is drawn where the console is a terminal.

    Args:
        what: What is being done.
        console: Where to draw.

    Yields:
        A function to call with how much is done and how much there is.
    """
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
