"""The ``local`` backend: an open model with a LoRA adapter on the devices of this machine.

:mod:`.policy` is the backend. Sampling and the forward pass are an *engine*'s: :mod:`.plain` (transformers'
own code, any model) or :mod:`.lean` (some families, written out, with kernels for CUDA). What both share:
:mod:`.replies` (a reply being decoded), :mod:`.packing` and :mod:`.training` (a step), :mod:`.adapter`,
:mod:`.checkpoint`, :mod:`.loading`. :mod:`.parallel`, :mod:`.worker`, :mod:`.messages` and :mod:`.sharding`
make several devices one policy.
"""
