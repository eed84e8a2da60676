"""The steps of decoding that are worth a kernel, twice: in plain torch, and as Triton kernels for CUDA.

Both modules have the same five functions. :mod:`.reference_ops` says what each computes;
:mod:`.triton_ops` computes the same on a CUDA device, and is imported on use, since
Triton comes with torch's CUDA builds only.
"""
