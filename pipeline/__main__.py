"""``python -m pipeline`` is ``chargestream``, for children that must run under this very interpreter."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
