"""The forms of label; nothing heavy is imported, so that the command line can name them."""

from typing import Literal, get_args

Form = Literal["points", "scribbles", "blocks", "boxes", "tags", "dense"]
"""The kinds of label that a data set may have."""

FORMS: tuple[Form, ...] = get_args(Form)
