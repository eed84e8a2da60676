"""GPU kernel problems for ttd, judged by a process that takes a candidate's word for nothing."""
