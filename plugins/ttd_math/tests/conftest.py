"""Hypothesis settings: no deadline, since the machine may be busy and first calls import and plan."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("ttd", deadline=None)
settings.load_profile("ttd")
