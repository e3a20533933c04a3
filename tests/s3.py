"""A real S3 server on loopback (moto's), behind a connection that can be cut."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest


class Wire:
    """Forwards TCP connections to a port of this machine, from a port of its own, until it is cut.

    Args:
        to: the port.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self.port = 0
        self.requests = 0
        self._flows = threading.Event()
        self._flows.set()
        self.mend()

    def cut(self) -> None:
        """Connections break, and new ones are refused."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def mend(self) -> None:
        """As it was."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def hold(self) -> None:
        """Connections stay, and nothing comes back."""
        self._flows.clear()

    def release(self) -> None:
        """What was held back comes."""
        self._flows.set()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self.requests += 1
                self._open += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(1 << 16):
                self._flows.wait()
                to.sendall(block)
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def settings(port: int) -> Iterator[None]:
    """What points S3's clients to a port of this machine, for this process and those that it starts."""
    import s3fs

    given = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield
        s3fs.S3FileSystem.clear_instance_cache()


@contextmanager
def server() -> Iterator[int]:
    """The port of a server in a thread of this process, with a bucket `text`."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    port = running.get_host_and_port()[1]
    with settings(port):
        import s3fs

        s3fs.S3FileSystem().mkdir("text")
    try:
        yield port
    finally:
        running.stop()


def resident() -> float:
    """MB of this process that are in memory and in no file."""
    with open(f"/proc/{os.getpid()}/status") as stream:
        found = dict(line.split(":", 1) for line in stream)
    return int(found["VmRSS"].split()[0]) / 1024
