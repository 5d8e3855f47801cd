"""Claims to exit codes: a stored run held against bounds, its reference or a baseline."""
