"""Text that fits on no machine: prepares made-up text into shards on an S3 server on loopback, kills that three times,
trains from the shards, and stops the server in mid-training. All by the commands that anyone would type.

    python -m benchmarks.shards --megabytes 1000 --folder /tmp/shards

Checks what must hold (the same shards whoever wrote them and however often it was killed; the same weights with the server
gone until training has waited for 20 seconds; bounds of cache and memory), prints what it measured, and fails where
something does not hold. Needs `pip install -e ".[dev]"`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks import corpus

BUCKET = "text"
OUTAGE = 20.0
MOST_RESIDENT = 600.0
BATCH, LENGTH = 32, 256


def main() -> None:
    """Prepares, kills, trains, and stops the server."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000, help="of text")
    parser.add_argument("--shards", type=int, default=500)
    parser.add_argument("--vocab_size", type=int, default=8000)
    parser.add_argument("--folder", type=Path, required=True, help="for text, cache and runs")
    parser.add_argument("--only", choices=("prepare", "train"), default=None)
    options = parser.parse_args()
    os.environ["VOCAB_SIZE"] = str(options.vocab_size)
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / f"{options.megabytes}.txt"
    if not text.exists():
        write_text(folder / "part", options.megabytes * 1_000_000)
        (folder / "part").rename(text)
        corpus.write(folder / "val.txt", 100_000, seed=7)
    with server(folder) as process:
        if options.only != "train":
            prepare(folder, text, options.shards)
        else:
            run(folder, "one", prepare_command(folder, text, "one", options.shards, 1))
        if options.only != "prepare":
            train(folder, process)


def write_text(path: Path, size: int) -> None:
    """So many bytes of made-up paragraphs, those of 40 MB in ever new orders."""
    lines = [line.encode() + b"\n" for line in corpus.lines(min(size, 40_000_000))]
    draw = random.Random(0)
    with path.open("wb") as stream:
        while stream.tell() < size:
            draw.shuffle(lines)
            stream.writelines(lines)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """moto's, in a process of its own; what speaks to it is set in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
        "WANDB_MODE": "disabled",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    import s3fs

    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    s3fs.S3FileSystem().mkdir(BUCKET)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def prepare_command(folder: Path, text: Path, name: str, shards: int, jobs: int) -> list[str]:
    """`lit-lm prepare --to`."""
    files = {"train": str(text), "val": str(folder / "val.txt"), "documents": "line"}
    data = text_data({"class_path": "lit_lm.data.TextFiles", "init_args": files})
    path = folder / "text.yaml"
    path.write_text(yaml.safe_dump({"data": data}))
    to = f"s3://{BUCKET}/{name}"
    flags = ["--to", to, "--shards", str(shards), "--jobs", str(jobs), "--sample", str(1 << 25)]
    return ["prepare", "--config", str(path), *flags]


def text_data(source: dict[str, Any]) -> dict[str, Any]:
    """A data module in plain form."""
    init = {"source": source, "length": LENGTH, "batch_size": BATCH}
    tokenizer = {"kind": "bpe", "vocab_size": int(os.environ["VOCAB_SIZE"])}
    return {"class_path": "lit_lm.data.TextData", "init_args": {**init, "tokenizer": tokenizer}}


def lit_lm(folder: Path, name: str, args: list[str]) -> subprocess.Popen[bytes]:
    """A command with a cache of its own, in a process group of its own; what it says goes into a file."""
    env = {**os.environ, "LIT_LM_CACHE": str(folder / f"cache-{name}")}
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lit_lm", *args],
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def run(folder: Path, name: str, args: list[str]) -> tuple[float, float]:
    """Seconds that a command takes, and processor seconds of it and all that it starts."""
    begin = time.perf_counter()
    process = lit_lm(folder, name, args)
    used: dict[str, float] = {}
    while process.poll() is None:
        used |= processors(process.pid)
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"{' '.join(args)} failed: {(folder / f'{name}.log').read_text()[-2000:]}")
    return time.perf_counter() - begin, sum(used.values())


def processors(session: int) -> dict[str, float]:
    """Processor seconds so far of every process of a session."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def index(name: str) -> dict[str, Any]:
    """The index of some shards."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    found: dict[str, Any] = json.loads(s3fs.S3FileSystem().cat_file(f"{BUCKET}/{name}/index.json"))
    return found


def prepare(folder: Path, text: Path, shards: int) -> None:
    """By one process, by two, and killed three times: the same shards."""
    size = text.stat().st_size
    contents = {}
    for name, jobs in (("one", 1), ("two", 2)):
        seconds, work = run(folder, name, prepare_command(folder, text, name, shards, jobs))
        found = index(name)
        contents[name] = found["content"]
        tokens = sum(shard["tokens"] for shard in found["splits"]["train"])
        print(
            f"prepare --jobs {jobs}: {size / 1e6:,.0f} MB, {tokens:,} tokens, {shards} shards in {seconds:,.0f} s: "
            f"{tokens / seconds:,.0f} tokens/s, {size / seconds / 1e6:.1f} MB/s; in {work:,.0f} processor seconds: "
            f"{tokens / work:,.0f} tokens in each",
            flush=True,
        )
    kill_three_times(folder, text, shards)
    contents["killed"] = index("killed")["content"]
    print(f"content {contents}")
    if len(set(contents.values())) > 1:
        sys.exit("the shards differ")


def kill_three_times(folder: Path, text: Path, shards: int) -> None:
    """SIGKILL of all its processes, each time when some more shards are there; then it may end."""
    import s3fs

    draw = random.Random(0)
    command = prepare_command(folder, text, "killed", shards, 2)

    def entries() -> int:
        system = s3fs.S3FileSystem(use_listings_cache=False)
        names = system.ls(f"{BUCKET}/killed") if system.exists(f"{BUCKET}/killed") else []
        return sum("-of-" in name and name.endswith(".json") for name in names)

    for kill in range(3):
        process = lit_lm(folder, "killed", command)
        goal = entries() + draw.randrange(1, max(shards // 4, 2))
        while entries() < goal:
            if process.poll() is not None:
                sys.exit(
                    f"it ended before it was killed: {(folder / 'killed.log').read_text()[-2000:]}"
                )
            time.sleep(draw.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"kill {kill + 1}: {entries()} of {shards} shards are there", flush=True)
    run(folder, "killed", command)


def train(folder: Path, server: subprocess.Popen[bytes]) -> None:
    """Undisturbed, and with the server stopped: the same weights; and how much memory it takes beside flat data."""
    shards = index("one")["splits"]["train"]
    bound = 6 * max(shard["size"] for shard in shards)
    # Through six shards, the server stopped in the third: what is read ahead then lasts for one.
    steps = 6 * max(shard["tokens"] for shard in shards) // (BATCH * LENGTH)
    source = {"address": f"s3://{BUCKET}/one", "mix": 1, "cache_bytes": bound}
    remote = text_data({"class_path": "lit_lm.data.Shards", "init_args": source})
    small = {"train": str(folder / "val.txt"), "val": str(folder / "val.txt"), "documents": "line"}
    small_data = text_data({"class_path": "lit_lm.data.TextFiles", "init_args": small})
    small_data["init_args"]["tokenizer"] = {"path": str(folder / "tokenizer.json")}
    import s3fs

    s3fs.S3FileSystem().get_file(f"{BUCKET}/one/tokenizer.json", str(folder / "tokenizer.json"))
    peaks, weights = {}, {}
    for name, data in (("flat", small_data), ("whole", remote), ("stopped", remote)):
        path = folder / f"{name}.yaml"
        path.write_text(
            yaml.safe_dump(experiment(folder, name, data, 3 if name == "flat" else steps))
        )
        process = lit_lm(folder, name, ["fit", "--config", str(path)])
        cache = folder / f"cache-{name}"
        peaks[name], most, stopped_at = 0.0, 0, 0.0
        while process.poll() is None:
            peaks[name] = max(peaks[name], resident(process.pid))
            if name != "flat":
                most = max(most, size_of(cache))
            if name == "stopped" and not stopped_at and logged(folder / name) >= steps // 3:
                server.send_signal(signal.SIGSTOP)
                stopped_at = math.inf
            # What was read ahead is trained on first: the outage is counted from where training waits.
            if stopped_at == math.inf and "Waiting for" in (folder / "stopped.log").read_text():
                stopped_at = time.perf_counter()
            if 0 < stopped_at < time.perf_counter() - OUTAGE:
                server.send_signal(signal.SIGCONT)
                stopped_at = -1.0
            time.sleep(0.1)
        if process.returncode:
            sys.exit(f"training failed: {(folder / f'{name}.log').read_text()[-3000:]}")
        last = torch.load(folder / "runs" / name / "checkpoints" / "last.ckpt", weights_only=True)
        weights[name] = last["state_dict"]
        print(
            f"{name}: {peaks[name]:,.0f} MB resident at most; the cache held {most:,} of {bound:,} bytes",
            flush=True,
        )
        if most > bound:
            sys.exit("the cache is over its bound")
        shutil.rmtree(cache, ignore_errors=True)
    said = [
        line
        for line in (folder / "stopped.log").read_text().splitlines()
        if "Waiting for" in line or "going on" in line
    ]
    print("\n".join(said))
    if not said:
        sys.exit("training did not wait, or did not say so")
    if not all(torch.equal(weights["whole"][k], weights["stopped"][k]) for k in weights["whole"]):
        sys.exit("the weights differ")
    above = peaks["whole"] - peaks["flat"]
    print(
        f"equal weights after {steps} steps; {above:,.0f} MB above training on 100 KB of flat text"
    )
    if above > MOST_RESIDENT:
        sys.exit("it takes too much memory")


def experiment(folder: Path, name: str, data: dict[str, Any], steps: int) -> dict[str, Any]:
    """A GPT that is small, so that shards go by quickly."""
    sizes = {"num_layers": 1, "num_heads": 2, "d_model": 32, "dropout": 0.0}
    net = {"class_path": "lit_lm.models.GPTConfig", "init_args": sizes}
    return {
        "run": {"name": name, "dir": str(folder / "runs")},
        "trainer": {
            "max_epochs": -1, "max_steps": steps, "limit_val_batches": 2, "accelerator": "cpu", "log_every_n_steps": 1,
            "enable_progress_bar": False, "callbacks": [],
        },
        "data": data,
        "model": {"class_path": "lit_lm.tasks.CausalLM", "init_args": {"net": net}},
    }  # fmt: skip


def resident(pid: int) -> float:
    """MB of a process that are in memory now."""
    try:
        with open(f"/proc/{pid}/status") as stream:
            return next(int(line.split()[1]) / 1024 for line in stream if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0.0


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder from which others are deleted meanwhile."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            if name.startswith("text."):
                try:
                    total += os.stat(f"{where}/{name}").st_size
                except FileNotFoundError:
                    continue
    return total


def logged(run: Path) -> int:
    """The step of the last row that a run has logged."""
    try:
        rows = (run.parent / "runs" / run.name / "metrics.csv").read_text().splitlines()
        at = rows[0].split(",").index("step")
        return int(float(rows[-1].split(",")[at]))
    except (OSError, IndexError, ValueError):
        return 0


if __name__ == "__main__":
    main()
