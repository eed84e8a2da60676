"""AtCoder heuristic contests for ttd, with bit-exact inputs and the contest's own judgement."""
