"""The ``tinker`` backend: a model that samples and learns on a server of the Tinker protocol.

:mod:`.policy` is the backend, :mod:`.sampling` and :mod:`.batch` the two halves of a step, :mod:`.options`
what ``policy.options`` takes and :mod:`.errors` how the client's errors are told.
"""
