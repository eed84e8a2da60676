"""ttd: a language model learns while it attacks one hard problem."""
