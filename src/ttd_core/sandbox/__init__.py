"""Where candidate code runs: executors that take jobs, and the sandbox that they run them in.

:mod:`.base` is the protocol: jobs, limits, results, the executor. Two executors implement it: :mod:`.local`
(this machine) and :mod:`.ray`, which brings the local one to every node of a cluster.

The local executor takes a job (:mod:`.pool`, :mod:`.futures`), cores for it (:mod:`.cores`) and a warm fork
server (:mod:`.launch`, :mod:`.connection`), and makes an :mod:`.attempt`: it follows the job
(:mod:`.exchange`) and says how it ended (:mod:`.outcome`). :mod:`.probe` finds how this machine can isolate
jobs (:mod:`.isolation`, :mod:`.cgroup`), :mod:`.layout` which of its files they may see. :mod:`.artifacts`
keeps compiled programs, :mod:`.codec` turns jobs into bytes, and :mod:`.inside` is what runs in the sandbox.
"""
