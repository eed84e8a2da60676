"""The plain engine: transformers' own code with an attention of ours; any model on any device.

:mod:`.attention` is what transformers calls, :mod:`.sliding_window` its part for windows and sinks, and
:mod:`.decode` the sampler.
"""
