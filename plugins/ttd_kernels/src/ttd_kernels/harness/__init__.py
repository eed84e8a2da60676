"""How a kernel that nobody trusts is evaluated: run in the sandbox, checked and timed from another process.

Two processes take part. The *judge* is trusted: it draws the inputs, reads the outputs, and has the clock.
The *candidate* is a sandboxed process that runs a model's program; what it says is a claim. ``evaluation`` is
the order of events; ``launch`` and ``judge_client`` start it; ``docs/kernels-harness.md`` explains the whole.
"""
