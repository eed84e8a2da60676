"""What problems, policies and executors of any distribution are held to; usable without this project's tests.

:mod:`.checkup` lists the clauses of a problem's contract, as ``ttd check-problem`` prints them, and
:mod:`.contract` makes each a pytest test. :mod:`.behaviour` and :mod:`.verifier` hold the clauses,
:mod:`.subject` what they look at, :mod:`.hostile` and :mod:`.leaves` what they try. :mod:`.strategies` draws
random answers and replies with hypothesis. :mod:`.policies` and :mod:`.executors` are the suites of backends.
"""
