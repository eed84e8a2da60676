"""The ``tinker`` backend: a model that samples and learns on a server of the Tinker protocol."""
