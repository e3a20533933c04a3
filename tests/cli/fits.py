"""Several runs of the command line one after the other, in one process: importing takes longer than they do."""

from __future__ import annotations

import sys

from lit_lm.cli import main

if __name__ == "__main__":
    configs, flags = sys.argv[1].split(","), sys.argv[2:]
    sys.exit(max(main(["fit", f"--config={config}", *flags]) for config in configs))
