# Works on a stream that the events do not see.
# where: gpu
# expect: invalid: never written|is wrong
stream = torch.cuda.Stream()


def custom_kernel(data):
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        return right(data)
