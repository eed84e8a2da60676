"""Hops between local optima of `ac1` and `erdos` on a device, by an interior point method.

`minimax` has the two bounds as minimax problems, `interior`
is the optimiser, `hops` makes random starts and changes, `pools` holds what lineages have found, `search`
is the search over growing lengths, `checkpoint` what is kept of it, `running` the way from a start to a
certificate. torch is needed only here; the command is in :mod:`ttd_math.commands`.
"""
