"""One run: its steps, and the folder in which everything that it did can be read.

A run begins or goes on in :mod:`.loop`, from what :mod:`.setup` makes of a config. :mod:`.step` makes one
step in memory: :mod:`.rollout` samples replies and has each judged by :mod:`.evaluate`, :mod:`.step_metrics`
and :mod:`.totals` say what they came to. :mod:`.store` commits a step to the run folder, :mod:`.reading`
reads it back, and :mod:`.events` tells whoever listens.
"""
