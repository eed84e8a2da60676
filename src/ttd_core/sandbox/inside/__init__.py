"""What runs inside the sandbox: the supervisor, the fork server, the job.

:mod:`.supervisor` is started by :mod:`ttd_core.sandbox.launch`. It forms the :mod:`.namespaces` and forks the
:mod:`.server`, which imports the modules that jobs find ready (:mod:`.warmup`) and runs one job at a time:
a fork made ahead (:mod:`.prefork`) is confined for good (:mod:`.confine`, by :mod:`.landlock` and
:mod:`.seccomp` with the tables of :mod:`.syscalls`), calls the candidate's function (:mod:`.python_job`) or
becomes a program in a folder of its own (:mod:`.scratch`), and is watched meanwhile (:mod:`.watch`,
:mod:`.folders`). :mod:`.trial` tries each layer for :mod:`ttd_core.sandbox.probe`, :mod:`.kernel` makes the
system calls that Python lacks.

These modules import the standard library only (numpy on use), because the interpreter they run in sees
neither ``ttd_core`` nor its dependencies. The trusted process uses three of them: :mod:`.frames`,
:mod:`.folders`, and of :mod:`.kernel` what asks for capabilities.
"""
