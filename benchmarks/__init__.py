"""Speed beside the peers, on this machine, in one process: ``make bench``, or ``python -m benchmarks --help``."""
