"""The public benchmark of faults: what the diagnosis finds, what it calls it, and whether it leaves good runs alone."""
