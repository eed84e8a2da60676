"""Attacks on the sandbox: each with a control that shows it succeeds without one, and an oracle outside.

``python -m attacks`` (from ``tests/sandbox``), or ``benchmarks/attacks.py``, prints the table of attack by
level; :mod:`.catalogue` lists them all.
"""
