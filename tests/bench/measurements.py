"""CPU seconds of every measurement for one network of a finished sweep, by default `demo`.

    python -m tests.bench.measurements [SWEEP]

One thread, once each; loading the network and the data is left out. Nothing is written.
"""

from __future__ import annotations

import sys
import time

import torch

from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.restore import subject_of
from mixbench.experiments.store.sweep_folder import SweepFolder


def main() -> None:
    """Print a line per measurement of one network: of the last finished run."""
    torch.set_num_threads(1)
    folder = SweepFolder.open(sys.argv[1] if len(sys.argv) > 1 else "demo")
    run = [one for one in folder.plan() if one.folder.result()][-1]
    print(f"{folder.name}: {run.config['augmentation']['name']}, run {run.run_key}")
    for name, entry in catalogue.MEASUREMENTS.items():
        if entry.of_cell:
            continue
        subject = subject_of(run, torch.device("cpu"), lambda: None)
        began = time.process_time()
        catalogue.implementation(name).measure(subject, catalogue.parse(name, {}))
        print(f"  {name:15} {time.process_time() - began:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
