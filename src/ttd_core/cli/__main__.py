"""``python -m ttd_core.cli`` is ``ttd``."""

from ttd_core.cli import main

main()
