"""Measure finished runs from their saved weights: one process, run after run.

    python -m mixbench.experiments.worker.evaluate SWEEP_FOLDER --device cpu --threads 1 --wanted
    JSON

Start as many as there are cores: a run is claimed while it is measured, as in training, by a file
in its folder `evaluations`. Each measurement is written at once, so that after a stop another
process continues where this one ended.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixbench.experiments.errors import Impossible, UserError
from mixbench.experiments.store import claims, evaluations
from mixbench.experiments.store.claims import Claim, ClaimLost, Watch
from mixbench.experiments.store.files import dump
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.store.tuned_cell import TUNING
from mixbench.experiments.text import show_every_character
from mixbench.experiments.worker.evaluation_files import write
from mixbench.experiments.worker.exit_status import NO_STORE, describe, is_unwritable

if TYPE_CHECKING:
    from mixbench.experiments.evaluation.base import Measured, Subject

Wanted = dict[str, dict[str, Any]]
"""Measurement -> all its settings."""

WAIT_SECONDS = 1.0


def work(
    folder: SweepFolder,
    wanted: Wanted,
    device: str,
    name: str,
    since: float | None = None,
    *,
    tuning_runs: bool = False,
) -> int:
    """Measure what is missing of every finished run; returns how many measurements failed here.

    since: a time in seconds; older measurements count as missing. Waits for runs that others
    measure, in case they die. Measurements that failed elsewhere since this began are skipped.
    tuning_runs: those that choose a setting too.
    """
    watch = Watch()
    began = time.time()
    failures = 0
    # Not before: it looks into every measurement, and `main` has to set the threads.
    from mixbench.experiments.evaluation import catalogue
    from mixbench.experiments.worker.evaluate_cell import measure_cell

    tried: set[tuple[str, str]] = set()

    def missing(planned: PlannedRun) -> list[str]:
        names = evaluations.missing(planned.folder, wanted, since)
        failed = evaluations.tried_since(planned.folder, began) if names else set()
        return [
            name for name in names if name not in failed and (planned.run_key, name) not in tried
        ]

    def is_wanted(planned: PlannedRun) -> bool:
        return tuning_runs or planned.part != TUNING

    while todo := [
        run for run in folder.plan() if is_wanted(run) and run.folder.result() and missing(run)
    ]:
        is_idle = True
        # Those of the same images one after the other: loading these takes a part of a second.
        for planned in sorted(todo, key=_images_of):
            # Another process may have measured it meanwhile; a claim in vain costs three writes.
            if not missing(planned):
                is_idle = False
                continue
            try:
                claim = _claim(planned, name, watch)
            except PermissionError as error:
                # Of this run; this user may well write to others.
                tried |= {(planned.run_key, name) for name in wanted}
                failures += len(missing(planned))
                print(f"{planned.run_key[:8]}: {describe(error, planned.folder.path)}", flush=True)
                continue
            if claim is None:
                continue
            is_idle = False
            try:
                # And between that check and the claim.
                names = missing(planned)
                tried |= {(planned.run_key, name) for name in names}
                of_run, of_cell = catalogue.by_kind(names)
                failures += _measure_run(
                    planned, {name: wanted[name] for name in of_run}, device, claim
                )
                for name in of_cell:
                    failures += measure_cell(folder, planned, name, wanted[name], claim)
            except ClaimLost:
                continue
            finally:
                if not claim.is_lost():
                    claim.release(Outcome.MEASURED)
        if is_idle:
            time.sleep(WAIT_SECONDS)
    return failures


def _images_of(planned: PlannedRun) -> str:
    return json.dumps(planned.config["dataset"], sort_keys=True, default=str)


def _claim(planned: PlannedRun, worker: str, watch: Watch) -> Claim | None:
    folder = evaluations.folder_of(planned.folder)
    folder.mkdir(exist_ok=True)
    return claims.acquire(folder, worker, watch)


def _measure_run(planned: PlannedRun, wanted: Wanted, device_name: str, claim: Claim) -> int:
    """Measure one run; record failures and continue with the rest. Returns how many failed.

    A measurement that can't be made of the network is recorded too, and is not a failure.
    """
    import torch

    from mixbench.experiments.evaluation.restore import subject_of

    device = torch.device(device_name)
    failures = 0
    subject: Subject | None = None
    for name, settings in wanted.items():
        started = time.time()
        try:
            if subject is None:
                with claim.keep_renewing():
                    subject = subject_of(planned, device, claim.renew)
            claim.renew({"stage": f"measuring {name}"})
            measured = _measure(subject, name, settings)
        except ClaimLost:
            raise
        except Impossible as error:
            evaluations.fail(planned.folder, name, str(error), settings)
        except Exception as error:
            text = (
                str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            )
            evaluations.fail(planned.folder, name, text)
            failures += 1
            print(f"{planned.run_key[:8]} {name}: {text}", flush=True)
        else:
            claim.renew(force=True)
            write(planned, name, settings, measured, device, started)
    return failures


def _measure(subject: Subject, name: str, settings: dict[str, Any]) -> Measured:
    from mixbench.experiments.evaluation import catalogue

    implementation = catalogue.implementation(name)
    measured: Measured = implementation.measure(subject, catalogue.parse(name, settings))
    # What JSON can't hold raises here, and is recorded as this measurement's failure.
    dump({"metrics": measured.metrics, "curves": measured.curves})
    return measured


def main() -> int:
    """Measure finished runs of a sweep.

    Returns the exit status: 0 when all is measured, 1 when a measurement failed, NO_STORE when the
    sweep's folder can't be written to.
    """
    show_every_character()
    parser = argparse.ArgumentParser(description="Measure finished runs of a sweep.")
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--name", default=f"{os.uname().nodename}-{os.getpid()}")
    parser.add_argument("--wanted", required=True, help="JSON: measurement -> settings")
    parser.add_argument("--since", type=float, help="also what was measured before, in seconds")
    parser.add_argument("--tuning-runs", action="store_true", help="those that tune a method too")
    arguments = parser.parse_args()
    if arguments.threads:
        # Before torch is imported: OpenMP reads it once.
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    folder = SweepFolder(arguments.sweep.absolute())
    # Handle SIGTERM as Ctrl-C: the run that is being measured is released.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failures = work(
            folder,
            json.loads(arguments.wanted),
            arguments.device,
            arguments.name,
            arguments.since,
            tuning_runs=arguments.tuning_runs,
        )
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(f"mixbench: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not is_unwritable(error):
            raise
        print(describe(error, folder.path), file=sys.stderr)
        return NO_STORE
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
