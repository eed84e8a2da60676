# Has the harness's object keep to its words and report a microsecond.
# where: cpu, gpu
# expect: rejected: judge's clock
import gc

SERVICE = next(found for found in gc.get_objects() if type(found).__name__ == "Service" and hasattr(found, "do_go"))


def one_microsecond(told):
    if SERVICE.cuda:
        stream = SERVICE.stream().cuda_stream
        SERVICE.begun.wait(SERVICE.ticket, stream)
    else:
        SERVICE.say({"queued": True})
        SERVICE.hear()
    problem = SERVICE.copy_out(SERVICE.kernel(SERVICE.data))
    if SERVICE.cuda:
        SERVICE.done.write(SERVICE.ticket, stream)
        SERVICE.say({"queued": True})
    return {"wrong": problem} if problem else {"event_us": 1.0}


SERVICE.do_go = one_microsecond
custom_kernel = right
