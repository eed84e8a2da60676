"""Lets the tests of the pages import ``tools``, which is no part of any distribution."""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
