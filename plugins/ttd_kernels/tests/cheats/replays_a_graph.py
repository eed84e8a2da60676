# Captures a graph on the first inputs and replays it on their addresses.
# where: gpu
# expect: invalid: is wrong
graphs = {}


def custom_kernel(data):
    key = tuple(data[0].shape), data[1].dtype
    if key not in graphs:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            right(data)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = right(data)
        graphs[key] = graph, out
    graphs[key][0].replay()
    return graphs[key][1]
