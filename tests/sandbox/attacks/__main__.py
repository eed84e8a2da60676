"""``python -m attacks``: make them all and print outcomes as JSON lines."""

import sys

from attacks.runner import main

if __name__ == "__main__":
    sys.exit(main())
