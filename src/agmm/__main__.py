"""``python -m agmm`` is ``agmm``."""

import sys

from agmm.cli import main

if __name__ == "__main__":
    sys.exit(main())
