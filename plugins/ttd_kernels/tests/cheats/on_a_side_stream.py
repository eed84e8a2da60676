# Works on a stream that the events do not see.
# where: gpu
# expect: rejected: judge's clock
stream = torch.cuda.Stream()


def custom_kernel(data):
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        return right(data)
