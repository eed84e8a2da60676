"""The operations between matrix products that are worth a kernel, each in plain torch and in Triton.

:mod:`.reference_ops` (decoding) and :mod:`.reference_training_ops` (training) say what each operation
computes, and are what runs on a CPU. :mod:`.triton_ops` and :mod:`.triton_training_ops` have the same
functions and launch the Triton kernels of :mod:`.attention`, :mod:`.sampling`, :mod:`.pointwise` and
:mod:`.backward`; they are imported on use, since Triton comes with torch's CUDA builds only. Likewise for
mixtures of experts :mod:`.reference_expert_ops` and :mod:`.triton_expert_ops`, with the kernels of
:mod:`.routing` and :mod:`.grouped`.
"""

import os

#: The environment variable, and its value, by which Triton makes a product and a sum one instruction that
#: rounds once. Until 3.8 it does so unless told otherwise, 3.9 does and warns, 3.10 will not. We measured
#: with fusion, and a run compares candidates' kernels with what we measured and with one another: under every
#: Triton both are compiled so.
FP_FUSION = ("TRITON_DEFAULT_FP_FUSION", "1")
# Read whenever a kernel is compiled. For kernels of this process a user's own choice stands.
os.environ.setdefault(*FP_FUSION)
