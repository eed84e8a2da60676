# Signals that its outputs are there some microseconds before the last of them are.
# where: gpu
# expect: rejected|invalid: before its outputs are complete|is wrong
import gc

LEAD_US, CYCLES_PER_US = 60.0, 1980
SERVICE = next(each for each in gc.get_objects() if type(each).__name__ == "Service" and hasattr(each, "do_go"))


def a_little_early(message):
    stream = SERVICE.stream()
    start, end = SERVICE.event(enable_timing=True), SERVICE.event(enable_timing=True)
    SERVICE.synchronize()
    SERVICE.start_semaphore.wait(SERVICE.call_number, stream.cuda_stream)
    start.record(stream)
    out, target = SERVICE.kernel(SERVICE.data).reshape(-1), SERVICE.output_tensors[0].reshape(-1)
    most = 3 * out.numel() // 4
    target[:most].copy_(out[:most])
    end.record(stream)
    SERVICE.done_semaphore.signal(SERVICE.call_number, stream.cuda_stream)
    # stands for work on the last quarter
    torch.cuda._sleep(int(LEAD_US * CYCLES_PER_US))
    target[most:].copy_(out[most:])
    SERVICE.send({"queued": True})
    SERVICE.synchronize()
    return {"event_us": 1e3 * start.elapsed_time(end)}


SERVICE.do_go = a_little_early
custom_kernel = right
