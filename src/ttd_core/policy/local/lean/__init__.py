"""The lean engine: families of models written out, with Triton kernels on CUDA devices."""
