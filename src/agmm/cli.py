"""The command table, nothing else."""

import importlib
import sys
import warnings
from collections.abc import Sequence

import agmm
from agmm.commands.parsing import CommandError, run_command

COMMANDS = {
    "demo": "the whole way on generated pictures, in minutes on a laptop",
    "check": "what is in a data set, and what is wrong with it",
    "simulate": "weak labels of every form from dense masks",
    "train": "train a segmentation model from points, scribbles, blocks, boxes, tags or masks",
    "evaluate": "mIoU, per-class IoU and pixel accuracy of a run",
    "predict": "masks for pictures of any size",
    "label": "pseudo labels and confidence for the training pictures",
    "seeds": "coverage and precision of the seeds found for tags and boxes",
}

USAGE = """usage: agmm COMMAND ... | agmm COMMAND --help

Semantic segmentation from tags, points, scribbles, blocks and boxes instead of dense masks.

commands:
{table}

examples:
  agmm demo
  agmm check photos
  agmm train photos --labels scribbles --out runs/first
  agmm evaluate runs/first photos
  agmm predict runs/first new-photos --out masks

options:
  --help     show this and exit
  --version  show the version and exit
"""


def usage() -> str:
    """The help of ``agmm`` itself."""
    table = "\n".join(f"  {name:<9} {text}" for name, text in COMMANDS.items())
    return USAGE.format(table=table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``agmm`` with these arguments, by default those of the process.

    Returns:
        0 on success, 1 on failure, 2 on wrong use, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("--help", "-h"):
        sys.stdout.write(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        sys.stdout.write(f"agmm {agmm.__version__}\n")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        sys.stderr.write(f"agmm: no command {name!r}; there are: {', '.join(COMMANDS)}\n")
        return 2
    # Pillow warns where we refuse, and say what to do.
    warnings.filterwarnings("ignore", r"Image size .* could be decompression bomb")
    try:
        return run_command(importlib.import_module(f"agmm.commands.{name}"), name, rest)
    except CommandError as error:
        sys.stderr.write(f"agmm {name}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:  # during the import of the command
        sys.stderr.write(f"agmm {name}: stopped\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
