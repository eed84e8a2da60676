"""The archive of states and where the next groups start (paper, appendix A.2); arithmetic only, no model.

:mod:`.archive` keeps states with their lineage and statistics, :mod:`.puct` scores them, and :mod:`.reuse`
picks the start states of a step by those scores or by an ablation of them.
"""
