"""What runs inside the sandbox: supervisor, fork server, watcher, job.

These modules import the standard library only (numpy on use), because the interpreter they run in sees
neither ``ttd_core`` nor its dependencies; :mod:`ttd_core.sandbox.launch` starts it with a cleared
environment. Only :mod:`.frames` and the probes of :mod:`.kernel` are also used by the trusted process.
"""
