"""The reference pages that are drawn from the code.

    python -m tools.reference            write docs/reference/
    python -m tools.reference --check    name the pages that differ; exit code 1 when one does

To add a page: a function that returns Markdown, and a line in ``PAGES`` of ``__main__.py``. Pages are kept in
the repository, so that they can be read there; ``tests/docs/test_reference.py`` holds them to the code.
"""
