# Has the harness's object keep to its words and report a microsecond.
# where: cpu, gpu
# expect: rejected: judge's clock
import gc
import types


def one_microsecond(self, told):
    stream = self.stream().cuda_stream if self.cuda else None
    if self.cuda:
        self.begun.wait(self.ticket, stream)
    else:
        self.say({"queued": True})
        self.hear()
    problem = self.copy_out(self.kernel(self.data))
    if self.cuda:
        self.done.write(self.ticket, stream)
        self.say({"queued": True})
    return {"wrong": problem} if problem else {"event_us": 1.0}


for found in gc.get_objects():
    if type(found).__name__ == "Service" and hasattr(found, "do_go"):
        found.do_go = types.MethodType(one_microsecond, found)


def custom_kernel(data):
    return right(data)
