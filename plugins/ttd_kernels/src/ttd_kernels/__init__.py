"""GPU kernel problems for ttd: TriMul and MLA decode on a harness that cannot be cheated."""
