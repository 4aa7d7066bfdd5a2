"""Which processes train a run together."""

from dataclasses import dataclass

from lenet_jax.errors import UserError
from lenet_jax.experiment.checks import require, require_types

MOST_PROCESSES = 65_536
MOST_SECONDS = 86_400


@dataclass(frozen=True)
class Distributed:
    """The processes of a run, on one machine or many (`training.hosts.joined`).

    All are given the same experiment and differ in `process` alone. Slurm, Open MPI and a TPU say
    these numbers themselves: there they may be left out.
    """

    coordinator: str | None = None
    """HOST:PORT at which all processes find process 0"""
    processes: int | None = None
    """how many there are"""
    process: int | None = None
    """which of them this one is, from 0"""
    wait: int = 300
    """seconds in which all of them have to be there"""

    def __post_init__(self) -> None:
        require_types(self)
        allowed = f"1 to {MOST_SECONDS:,}"
        require(0 < self.wait <= MOST_SECONDS, "distributed.wait", self.wait, allowed, "300")
        given = self.coordinator, self.processes, self.process
        if given == (None, None, None):
            return
        if self.coordinator is None or self.processes is None or self.process is None:
            raise UserError(
                f"--distributed.coordinator is {self.coordinator}, --distributed.processes "
                f"{self.processes}, --distributed.process {self.process}: give all three, or none "
                "where Slurm, Open MPI or a TPU start the processes"
            )
        host, _, port = self.coordinator.rpartition(":")
        require(
            bool(host) and port.isdecimal() and 0 < int(port) < 65_536,
            "distributed.coordinator",
            self.coordinator,
            "HOST:PORT of process 0",
            "10.0.0.1:29500",
        )
        processes = self.processes
        allowed = f"1 to {MOST_PROCESSES:,}"
        require(0 < processes <= MOST_PROCESSES, "distributed.processes", processes, allowed, "2")
        last = processes - 1
        require(0 <= self.process <= last, "distributed.process", self.process, f"0 to {last}", "0")
