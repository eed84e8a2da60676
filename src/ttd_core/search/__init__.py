"""The search over start states: which were found, and where the next groups start (paper, appendix A.2).

:mod:`.archive` holds the states with their lineage and statistics, :mod:`.puct` ranks them,
:mod:`.reuse` picks the starts of a step. Nothing here knows of models, programs or problems.
"""
