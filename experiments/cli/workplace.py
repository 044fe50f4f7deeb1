"""Where workers start: local slots or a SLURM profile, from the options of three verbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mixbench.experiments.cli.options import Cluster, Device
from mixbench.experiments.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mixbench.slurm.local import Slot
    from mixbench.slurm.profile import Profile


@dataclass(frozen=True)
class Workplace:
    """Local slots, or the profile of SLURM tasks; `workers` and `per_gpu` as the user gave them."""

    slots: Sequence[Slot]
    profile: Profile | None
    workers: int | None
    per_gpu: int | None


@dataclass(frozen=True)
class WorkplaceOptions:
    """The options `--cluster`, `--profile`, `--slurm` and so on, as given."""

    cluster: Cluster
    profile: str | None
    workers: int | None
    per_gpu: int | None
    device: Device
    wait: bool = False
    slurm: Sequence[str] = ()

    def check(self) -> None:
        """Raise UserError where the options contradict each other."""
        for option, number in (("--workers", self.workers), ("--workers-per-gpu", self.per_gpu)):
            if number is not None and number < 1:
                raise UserError(f"{option}: got {number}, expected at least 1")
        if self.cluster is Cluster.slurm:
            if not self.profile:
                raise UserError(
                    "--profile: missing; --cluster slurm needs one (see `mixbench profile list`)"
                )
            if self.device is not Device.auto:
                raise UserError("--device: with --cluster slurm the profile decides")
        elif self.profile is not None:
            raise UserError(f"--profile: got {self.profile!r}, which is for --cluster slurm alone")
        elif self.slurm:
            raise UserError(f"--slurm: got {self.slurm[0]!r}, which is for --cluster slurm alone")
        elif self.wait:
            raise UserError("--wait: is for --cluster slurm; the local cluster always waits")

    def resolve(self, runs: int, devices: int = 1) -> Workplace:
        """Check the options and find the local slots for `runs` runs, or load the profile.

        devices: GPUs (or CPU processes) that one run takes.
        """
        self.check()
        if self.cluster is Cluster.slurm:
            from mixbench.slurm import overrides, profile

            loaded = overrides.apply(profile.load(self.profile or ""), self.slurm)
            if self.per_gpu is not None:
                loaded = loaded.with_workers_per_gpu(self.per_gpu)
            return Workplace((), loaded, self.workers, self.per_gpu)
        from mixbench.slurm import local

        slots = local.slots(
            self.workers, runs, self.device.value, per_gpu=self.per_gpu or 1, devices=devices
        )
        return Workplace(slots, None, self.workers, self.per_gpu)
