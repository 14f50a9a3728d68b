"""A small fleet of real workers on this machine."""

from __future__ import annotations

import subprocess
import sys


class Fleet:
    """A scheduler in this process and ``luthier worker`` processes, which pretend to be machines of their own."""

    def __init__(self, environment: dict[str, str]) -> None:
        import distributed

        options = {"processes": False, "dashboard_address": None, "protocol": "tcp://", "host": "127.0.0.1"}
        self.cluster = distributed.LocalCluster(n_workers=0, **options)
        self.url = self.cluster.scheduler_address.replace("tcp://", "dask://")
        self.environment = environment
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, *options: str) -> None:
        command = [sys.executable, "-m", "luthier", "worker", self.url, "--name", name, "--machine", name, *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment)
        self.processes[name] = process

    def wait(self) -> None:
        """Wait until all workers are ready."""
        for process in self.processes.values():
            assert f"scheduler: {self.url}" in process.stdout.readline()
            assert "ready at" in process.stdout.readline()

    def send(self, name: str, number: int) -> None:
        self.processes[name].send_signal(number)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(10)
            process.stdout.close()
        self.cluster.close(5)
