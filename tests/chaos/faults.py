"""What else can break: checkpoints, the disk, a process, the network. Each fault says what was wrong, or nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lit_lm import checkpoints
from tests.chaos.runs import Run, differences, end, wait_for


def run_all(whole: Run, folder: Path) -> Iterator[tuple[str, str]]:
    """Every fault, with what was wrong ("" for nothing)."""
    for name, damage in DAMAGES.items():
        yield f"{name} last.ckpt", damaged(whole, folder / "faults" / name, damage)
    yield "full disk", full_disk(whole, folder / "faults" / "full")
    for rank in (1, 0):
        yield f"rank {rank} of 2 killed", dead_rank(whole, folder / "faults" / f"rank-{rank}", rank)
    yield (
        "W&B host refuses connections",
        wandb_away(whole, folder / "faults" / "refused", "http://127.0.0.1:9"),
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        yield "W&B host does not answer", wandb_away(whole, folder / "faults" / "silent", url)


def tell(name: str, wrong: str) -> bool:
    """One line of the table."""
    print(f"{name:<52}{'as it should be' if not wrong else 'WRONG: ' + wrong}", flush=True)
    return not wrong


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": _cut,
    "zero-length": _empty,
    "altered": _flip,
}


def damaged(whole: Run, folder: Path, damage: Callable[[Path], None]) -> str:
    """The newest checkpoint is damaged: named, refused; on request the one before it gives the same end."""
    run = Run(whole.experiment, folder, whole.flags)
    process = run.start()
    while len(checkpoints.kept(run.checkpoint.parent)) < 2 and process.poll() is None:
        time.sleep(0.02)
    if process.poll() is not None:
        return f"the run ended too early: {run.tail()}"
    end(process, signal.SIGTERM)
    damage(run.checkpoint)
    if (
        run.finish() != 2
        or "last.ckpt is damaged" not in run.tail()
        or "last-1.ckpt" not in run.tail()
    ):
        return f"--ckpt_path=last was not refused by name: {run.tail(3)}"
    if run.finish("--ckpt_path=last-intact") != 0:
        return f"--ckpt_path=last-intact did not go on: {run.tail(3)}"
    return "; ".join(differences(whole, run)[:3])


def full_disk(whole: Run, folder: Path) -> str:
    """The disk fills up in training: a clear error, the last good checkpoint stays, and with room it goes on."""
    run = Run(whole.experiment, folder, whole.flags)
    with _small_disk(folder) as fill:
        process = run.start()
        while not run.checkpoint.exists() and process.poll() is None:
            time.sleep(0.02)
        good = run.content()["global_step"]
        fill()
        status = process.wait(300)
        said = run.tail(4)
        if status == 0 or "Traceback" in said or "could not be written" not in said:
            return f"ended with {status}: {said}"
        checkpoints.check(run.checkpoint)
        if run.content()["global_step"] < good:
            return "the last good checkpoint is gone"
        (folder / "filling").unlink(missing_ok=True)
        saved = folder.with_name("full-saved")
        shutil.copytree(folder, saved)
    again = Run(whole.experiment, saved, whole.flags)
    if again.finish() != 0:
        return f"did not go on: {again.tail(3)}"
    return "; ".join(differences(whole, again)[:3])


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """A disk of its own in memory, and what fills it up; needs the right to mount."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise SystemExit(
            "the full disk needs the right to mount a small one: run as root, or with --no_faults"
        )

    def fill() -> None:
        with (folder / "filling").open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 65_536)
                file.flush()

    try:
        yield fill
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def dead_rank(whole: Run, folder: Path, rank: int) -> str:
    """One of two processes is killed: all end in under 60 s, not with 0."""
    run = Run(whole.experiment, folder, ["--config=trainer/ddp", "--trainer.devices=2"])
    process = run.start()
    if not wait_for(run, process, 0.5):
        return f"never trained: {run.tail(3)}"
    victim = process.pid if rank == 0 else _child(process.pid)
    os.kill(victim, signal.SIGKILL)
    begun = time.monotonic()
    while _alive(process) and time.monotonic() - begun < 90:
        time.sleep(0.1)
    seconds = time.monotonic() - begun
    if seconds > 60:
        os.killpg(process.pid, signal.SIGKILL)
        return f"hung for {seconds:.0f} s"
    return "" if process.poll() != 0 else "ended with 0"


def _child(pid: int) -> int:
    """The process's first child that is a rank: a command line of ours."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_bytes()
            if int(fields[1]) == pid and b"lit_lm" in command:
                return int(path.parent.name)
    raise RuntimeError(f"{pid} has started no second process")


def _alive(process: subprocess.Popen[bytes]) -> bool:
    """Whether any process of the run's group is left."""
    process.poll()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_bytes()
            if int(fields[2]) == process.pid and fields[0] != "Z" and b"lit_lm" in command:
                return True
    return False


def wandb_away(whole: Run, folder: Path, url: str) -> str:
    """The W&B server is not there: training goes on, and ends as without it."""
    env = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}
    run = Run(whole.experiment, folder, whole.flags)
    if run.finish(env=env) != 0:
        return f"stopped: {run.tail(3)}"
    return "; ".join(differences(whole, run)[:3])
