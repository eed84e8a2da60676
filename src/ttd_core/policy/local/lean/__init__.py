"""The lean engine: a few families of models written out, with Triton kernels on CUDA devices.

:mod:`.model` is the forward pass over a flat list of tokens and :mod:`.training` its gradient;
:mod:`.projection`, :mod:`.expert_projection` and :mod:`.mlp` are a layer's products and experts,
:mod:`.mxfp4` how packed ones lie.
:mod:`.decode` samples: :mod:`.prefill` reads prompts, :mod:`.batching` puts replies into rows,
:mod:`.kv_pages` holds their keys and values, :mod:`.paging` says in how many pages, :mod:`.decode_state` is
what a step reads and writes on the device, :mod:`.host_state` fills it, :mod:`.cuda_graphs` records and
replays steps. :mod:`.ops` chooses the operations for a device, which :mod:`.kernels` has in plain torch and
in Triton.
"""
