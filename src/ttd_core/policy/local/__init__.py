"""The ``local`` backend: an open model with a LoRA adapter on the devices of this machine."""
