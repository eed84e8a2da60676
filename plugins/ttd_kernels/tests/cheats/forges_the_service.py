# Has the harness's object keep to the protocol and report a microsecond.
# where: cpu, gpu
# expect: rejected: judge's clock
import gc

SERVICE = next(each for each in gc.get_objects() if type(each).__name__ == "Service" and hasattr(each, "do_go"))


def one_microsecond(message):
    if SERVICE.cuda:
        stream = SERVICE.stream().cuda_stream
        SERVICE.start_semaphore.wait(SERVICE.call_number, stream)
    else:
        SERVICE.send({"queued": True})
        SERVICE.receive()
    wrong = SERVICE.copy_out(SERVICE.kernel(SERVICE.data))
    if SERVICE.cuda:
        SERVICE.done_semaphore.signal(SERVICE.call_number, stream)
        SERVICE.send({"queued": True})
    return {"wrong": wrong} if wrong else {"event_us": 1.0}


SERVICE.do_go = one_microsecond
custom_kernel = right
