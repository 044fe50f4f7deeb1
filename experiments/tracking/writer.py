"""Make the store's runs equal to their records; every write can be repeated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mixbench.experiments.tracking import notes, write
from mixbench.experiments.tracking.hashing import short_hash
from mixbench.experiments.tracking.records import Record
from mixbench.experiments.tracking.stored_runs import (
    CELL,
    CELL_KEY,
    COLOUR,
    KIND,
    PROJECTED,
    SENT,
    SWEEP_ID,
    StoredRun,
    as_stored,
    find_runs,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient


class RunWriter:
    """The runs of one sweep in the store, and how they are written.

    stored: as the store has them: run_key -> run, "" for the sweep's own, "cell:KEY" for a cell's.
    """

    def __init__(
        self, client: MlflowClient, experiment_id: str, sweep_id: str, stored: dict[str, StoredRun]
    ) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.stored = stored
        self._sweep_id = sweep_id
        self._doubtful: set[str] = set()

    @property
    def identity(self) -> dict[str, str]:
        """The tags of every run of the sweep."""
        return {SWEEP_ID: self._sweep_id}

    @contextlib.contextmanager
    def doubting(self, key: str) -> Iterator[None]:
        """Look the run up anew after the block failed: the answer to a write may be lost."""
        try:
            yield
        except BaseException:
            self._doubtful.add(key)
            raise

    def existing(self, record: Record, tags: dict[str, str]) -> StoredRun:
        """Return the store's run for the record, made if there is none."""
        key = record.key
        stored = self.stored
        if key in self._doubtful:
            stored.pop(key, None)
            runs = find_runs(
                self.client, self.experiment_id, self._sweep_id, f" and {_condition(key)}"
            )
            if key in runs:
                stored[key] = runs[key]
            self._doubtful.discard(key)
        if key not in stored:
            run = self.client.create_run(
                self.experiment_id,
                start_time=record.started,
                tags={**tags, SENT: write.sent(record)},
                run_name=record.name,
            )
            stored[key] = as_stored(run)
        return stored[key]

    def write(self, record: Record, tags: dict[str, str]) -> str:
        """Make the store's run equal to the record; return its outcome for the `Summary`."""
        client, stored = self.client, self.stored
        with self.doubting(record.key):
            outcome = "updated" if record.key in stored else "created"
            run = self.existing(record, tags)
            if not write.continues(run.tags.get(SENT), record) or write.contradicts(run, record):
                client.delete_run(stored.pop(record.key).run_id)
                run = self.existing(record, tags)
                outcome = "replaced"
            note = self.note(record.note)
            digest = short_hash([record.digest, tags, note])
            rows, _, known = run.tags.get(PROJECTED, "0 ").partition(" ")
            changed = known != digest or (run.status, run.ended) != (record.status, record.ended)
            done = write.log_files(client, run, record)
            if changed:
                colour = {COLOUR: record.colour} if record.colour and COLOUR not in run.tags else {}
                # Record early what was sent, to make progress with a server that fails at every
                # tenth request.
                tags = {**tags, **done, **colour, **notes.tags(run, note, record.note)}
                write.log(client, run, record, tags, first_row=int(rows))
                write.set_status(client, run, record)
                done[PROJECTED] = f"{len(record.rows)} {digest}"
            write.log_batch(client, run, tags=done)
        return outcome if done or outcome == "created" else "unchanged"

    def note(self, text: str) -> str:
        """Return a run's description with a link to the report, an artifact of the sweep's run."""
        if not text or "" not in self.stored:
            return text
        return notes.with_link(text, self.experiment_id, self.stored[""].run_id)


def _condition(key: str) -> str:
    if key.startswith(CELL):
        return f"tags.`{KIND}` = 'cell' and tags.{CELL_KEY} = '{key.removeprefix(CELL)}'"
    return f"tags.run_key = '{key}'" if key else f"tags.`{KIND}` = 'sweep'"
