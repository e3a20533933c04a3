"""Two hosts on this one: Linux network namespaces joined by a cable, with processes that see only their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TORCHRUN = [shutil.which("torchrun") or "torchrun"]


@dataclass
class Host:
    """A namespace.

    Args:
        name: of the namespace.
        card: its end of the cable.
        address: the card's.
    """

    name: str
    card: str
    address: str
    jobs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, command: list[str], log: Path, **variables: str) -> subprocess.Popen[bytes]:
        """Starts a command there; it and what it starts cannot see, or be seen by, processes elsewhere."""
        inside = [
            "ip",
            "netns",
            "exec",
            self.name,
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        env = {**os.environ, "GLOO_SOCKET_IFNAME": self.card, "OMP_NUM_THREADS": "1", **variables}
        with log.open("a") as file:
            job = subprocess.Popen([*inside, *command], env=env, stdout=file, stderr=file, start_new_session=True)  # fmt: skip
        self.jobs.append(job)
        return job

    def unplug(self) -> None:
        """Pulls the cable: whoever waits for this host gets no answer, not even a refusal."""
        _ip("-n", self.name, "link", "set", self.card, "down")

    def kill(self) -> None:
        """Ends everything that runs there."""
        for job in self.jobs:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
            job.wait()


def missing() -> str | None:
    """Why there can be no such hosts here; None if there can be."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "needs iproute2's ip and util-linux's unshare"
    name = f"lit{os.getpid()}t"
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not permitted here: {error.stderr.decode().strip()}"
    try:
        inside = [
            "ip",
            "netns",
            "exec",
            name,
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        subprocess.run([*inside, "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        return f"namespaces are not permitted here: {error.stderr.decode().strip()}"
    finally:
        _ip("netns", "del", name)
    return None


@contextmanager
def two() -> Iterator[tuple[Host, Host]]:
    """Two hosts that can reach each other and nobody else."""
    names = [f"lit{os.getpid()}{x}" for x in "ab"]
    hosts = [Host(name, f"{name}0", f"10.77.0.{i}") for i, name in enumerate(names, 1)]
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        one, other = hosts
        _ip("-n", one.name, "link", "add", one.card, "type", "veth", "peer", "name", other.card, "netns", other.name)  # fmt: skip
        for host in hosts:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.card)
            _ip("-n", host.name, "link", "set", "lo", "up")
            _ip("-n", host.name, "link", "set", host.card, "up")
        yield one, other
    finally:
        for host in hosts:
            host.kill()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def torchrun(hosts: tuple[Host, Host], command: list[str], log: Path, port: int) -> None:
    """Starts a module with its arguments on both hosts, one process each."""
    for i, host in enumerate(hosts):
        launch = [
            *TORCHRUN, "--nnodes=2", "--nproc_per_node=1", f"--node_rank={i}",
            f"--master_addr={hosts[0].address}", f"--master_port={port}", "-m",
        ]  # fmt: skip
        host.start([*launch, *command], log.with_suffix(f".{i}"))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
