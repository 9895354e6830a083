"""``python -m mogrid``, and what torchrun starts."""

import sys

from mogrid.cli import main

if __name__ == "__main__":
    sys.exit(main())
