"""Open models: where they come from and how they are talked to.

:mod:`.fetch` brings a model to this machine, by a name of the :mod:`.catalogue` or of the hub. :mod:`.chat`
turns chat messages into token ids and replies back into text, with what :mod:`.thinking` reads off a model's
template; :mod:`.reply` holds a reply's tokens while it is sampled.
"""
