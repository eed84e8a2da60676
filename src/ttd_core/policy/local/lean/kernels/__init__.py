"""The operations between matrix products that are worth a kernel, each in plain torch and in Triton.

:mod:`.reference_ops` (decoding) and :mod:`.reference_training_ops` (training) say what each operation
computes, and are what runs on a CPU. :mod:`.triton_ops` and :mod:`.triton_training_ops` have the same
functions and launch the Triton kernels of :mod:`.attention`, :mod:`.sampling`, :mod:`.pointwise` and
:mod:`.backward`; they are imported on use, since Triton comes with torch's CUDA builds only. Likewise for
mixtures of experts :mod:`.reference_expert_ops` and :mod:`.triton_expert_ops`, with the kernels of
:mod:`.routing` and :mod:`.grouped`.
"""
