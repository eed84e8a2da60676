"""``python -m attacks``: make them all and print outcomes as JSON lines."""

import sys

from attacks.runner import main

sys.exit(main())
