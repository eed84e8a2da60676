"""What is said to a model and what is read from its replies.

:mod:`.prompting` renders the default prompt, :mod:`.parsing` reads a program out of a reply, :mod:`.merging`
completes a reply that gives only the parts of a program that it changes, and :mod:`.edits` and
:mod:`.applying` one that quotes the lines it changes.
"""
