"""Policies: where completions come from. Each backend is an adapter that imports what it needs on use.

:mod:`.base` is the protocol; the backends are :mod:`.local`, :mod:`.tinker`, :mod:`.openai` and
:mod:`.scripted`. They share :mod:`.models` (fetching, chat format), :mod:`.losses` and :mod:`.remote`.
"""

import os

# Sampling shares the processors with the sandbox's jobs. OpenMP threads that spin at a barrier while a job
# holds their core stall decoding several-fold; sleeping threads do not. Read once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
