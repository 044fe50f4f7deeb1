"""Measures finished runs anew from their saved weights: one process, run after run.

    python -m mixbench.experiments.worker.evaluate SWEEP_FOLDER --device cpu --threads 1 --wanted
    JSON

Start as many as there are cores: a run is held by a claim while it is measured, as in training, in
its folder `evaluations`. Each measurement is written as soon as it is made, so that whoever goes on
after a stop begins where this one ended.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mixbench.experiments.errors import Impossible, UserError
from mixbench.experiments.store import claims, evaluations
from mixbench.experiments.store.claims import Claim, ClaimLost, Watch
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker.worker import FULL, NO_STORE

Wanted = dict[str, dict[str, Any]]
"""Measurement -> all its settings."""

WAIT_SECONDS = 1.0


def work(
    folder: SweepFolder, wanted: Wanted, device: str, name: str, since: float | None = None
) -> int:
    """Measure what is missing of every finished run; how many measurements failed here.

    since: a time in seconds; what is older counts as missing. Waits for what others have in hand,
    in case they die. What failed elsewhere since this began would only fail here.
    """
    watch = Watch()
    began = time.time()
    failures = 0
    tried: set[tuple[str, str]] = set()

    def missing(planned: PlannedRun) -> list[str]:
        found = evaluations.missing(planned.folder, wanted, since)
        failed = evaluations.tried_since(planned.folder, began) if found else set()
        return [one for one in found if one not in failed and (planned.run_key, one) not in tried]

    while todo := [run for run in folder.plan() if run.folder.result() and missing(run)]:
        idle = True
        for planned in todo:
            # Somebody may have been here since the look; a claim for nothing is three writes.
            if not missing(planned):
                idle = False
                continue
            place = evaluations.place(planned.folder)
            place.mkdir(exist_ok=True)
            claim = claims.acquire(place, name, watch)
            if claim is None:
                continue
            idle = False
            try:
                # And between the look and the claim.
                names = missing(planned)
                tried |= {(planned.run_key, one) for one in names}
                failures += _measure(planned, {one: wanted[one] for one in names}, device, claim)
            except ClaimLost:
                continue
            finally:
                if not claim.is_lost():
                    claim.release(Outcome.MEASURED)
        if idle:
            time.sleep(WAIT_SECONDS)
    return failures


def _measure(planned: PlannedRun, wanted: Wanted, device: str, claim: Claim) -> int:
    """Measure one run; what fails is put on record, the rest goes on. How many failed.

    What can't be made of the network is put on record as well, and is no failure.
    """
    import torch

    from mixbench.experiments.evaluation import catalogue
    from mixbench.experiments.evaluation.restore import subject_of
    from mixbench.experiments.store import provenance

    failures = 0
    subject = None
    for name, values in wanted.items():
        started = time.time()
        try:
            if subject is None:
                with claim.kept():
                    subject = subject_of(planned, torch.device(device), claim.renew)
            claim.renew({"stage": f"measuring {name}"})
            module = catalogue.implementation(name)
            found = module.measure(subject, catalogue.parse(name, values))
        except ClaimLost:
            raise
        except Exception as error:
            text = (
                str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            )
            is_final = isinstance(error, Impossible)
            evaluations.fail(planned.folder, name, text, values if is_final else None)
            if not is_final:
                failures += 1
                print(f"{planned.run_key[:8]} {name}: {text}", flush=True)
            continue
        made = {
            "settings": values,
            "changed": catalogue.changed(name, values),
            "metrics": found.metrics,
            "curves": found.curves,
            "seconds": time.time() - started,
            "provenance": provenance.of(torch.device(device)) | {"finished": time.time()},
        }
        claim.renew(force=True)
        place = planned.folder.path / evaluations.FOLDER
        if found.arrays:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **found.arrays)
            atomic_write(place / f"{name}.npz", buffer.getvalue())
        atomic_write(place / f"{name}.json", dump(made))
        evaluations.forgive(planned.folder, name)
    return failures


def main() -> int:
    """The command line.

    Exit status 0 when all is measured, 1 when a measurement failed, NO_STORE when the sweep's
    folder can't be written to.
    """
    parser = argparse.ArgumentParser(description="Measure finished runs of a sweep.")
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--name", default=f"{os.uname().nodename}-{os.getpid()}")
    parser.add_argument("--wanted", required=True, help="JSON: measurement -> settings")
    parser.add_argument("--since", type=float, help="also what was measured before, in seconds")
    arguments = parser.parse_args()
    if arguments.threads:
        # Before torch is imported: OpenMP reads it once.
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    folder = SweepFolder(arguments.sweep.absolute())
    # As a Ctrl-C: the run that is being measured is let go of.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failures = work(
            folder, json.loads(arguments.wanted), arguments.device, arguments.name, arguments.since
        )
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(f"mixbench: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (*FULL, errno.EACCES):
            raise
        print(f"{error.strerror}: {error.filename or folder.path}", file=sys.stderr)
        return NO_STORE
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
