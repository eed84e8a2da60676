# Puts an allocator of its own in place, which hands out memory that holds an answer.
# where: gpu
# expect: crash: allocator
torch.cuda.memory.change_current_allocator(
    torch.cuda.memory.CUDAPluggableAllocator("libc.so.6", "malloc", "free")
)


def custom_kernel(data):
    return right(data)
