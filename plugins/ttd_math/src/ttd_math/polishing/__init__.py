"""Constructions of step functions improved on a device: many at once, by gradients, at growing lengths.

`objectives` has the bounds of `ac1`, `ac2` and `erdos` as functions that torch can differentiate, `ascent`
the two optimisers, `changes` what is tried of a function, `population` the search, `checkpoint` what is kept
of it, `running` the way from a start to a certificate. torch is needed only here; the command is in
:mod:`ttd_math.commands`.
"""
