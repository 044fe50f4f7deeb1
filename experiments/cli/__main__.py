"""`python -m mixbench.experiments.cli`."""

import sys

from mixbench.experiments.cli import main

if __name__ == "__main__":
    sys.exit(main())
