"""The steps of decoding that are worth a kernel, twice: in plain torch, and as Triton kernels for CUDA.

Both modules have the same five functions. :mod:`ttd_core.policy.kernels.reference` says what each computes;
:mod:`ttd_core.policy.kernels.device` computes the same on a CUDA device, and is imported on use, since
Triton comes with torch's CUDA builds only.
"""
