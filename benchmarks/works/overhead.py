"""What ``lit-lm fit`` adds to a bare loop: its Trainer with every shipped callback and logger, step by step beside one."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import torch
import yaml
from lightning.fabric.utilities import move_data_to_device
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR

from benchmarks import training
from benchmarks.report import Finding
from lit_lm import CausalLM, GPTConfig, OptimConfig, TextData, TokenizerConfig
from lit_lm.data import TextFiles

_OPTIM = {"lr": 1e-4, "weight_decay": 0.01, "schedule": "cosine", "warmup_steps": 100}


@dataclass(frozen=True)
class Setting:
    """Sizes, and how many steps are compared at a time.

    Args:
        block: steps compared at a time; a multiple of ``log_every``, so that each has its share of logging.
        log_every: the trainer's log_every_n_steps.
        warm: steps before the first that counts.
        blocks: the fewest.
        steps: more than will be taken.
    """

    layers: int
    width: int
    vocab: int
    rows: int
    length: int
    block: int
    log_every: int
    warm: int
    blocks: int
    steps: int


# Where a step takes seconds every one is logged, which is more than what is shipped: a block of ten would take a minute.
LARGE = Setting(6, 384, 8192, 8, 256, block=1, log_every=1, warm=2, blocks=7, steps=200)
TINY = Setting(1, 16, 64, 2, 8, block=10, log_every=10, warm=100, blocks=50, steps=50_000)


def findings() -> dict[str, Callable[[float], list[Finding]]]:
    """The share that is added to a usual step, and the time that is added to any."""
    return {"overhead": share, "overhead-tiny": added}


def share(seconds: float) -> list[Finding]:
    """Of a GPT that takes seconds for a step."""
    blocks = measure(LARGE, seconds)
    low, value, high = statistics.quantiles([100 * (a / b - 1) for a, b in blocks])
    note = f"{low:.1f} to {high:.1f} % in the middle half of {len(blocks)} steps, each of which was logged"
    title = "`lit-lm fit` beside a bare loop, GPT of 6 layers, width 384, vocabulary 8,192, 8 x 256 tokens, fp32"
    return [Finding("overhead", title, value, "% more", "< 3 % more", value < 3, note)]


def added(seconds: float) -> list[Finding]:
    """Of a network so small that little else is left."""
    blocks = measure(TINY, seconds)
    low, value, high = statistics.quantiles([1000 * (a - b) for a, b in blocks])
    note = (
        f"{low:.2f} to {high:.2f} ms in the middle half of {len(blocks)} times {TINY.block} steps; the bare step takes "
        f"{1000 * statistics.median(b for _, b in blocks):.2f} ms"
    )
    title = "what `lit-lm fit` adds to a step"
    return [Finding("overhead-tiny", title, value, "ms", "< 1 ms", value < 1, note)]


class Interleaved(TextData):
    """Data that does something else before it hands over a batch."""

    turns: ClassVar[Turns]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Lightning's hook, behind the loader."""
        self.turns.take(self.trainer)
        return batch


class Turns:
    """Lets a step of the bare loop follow each of the trainer's, and keeps the time of both.

    Time that is not the bare loop's is the trainer's, also that of a progress bar's thread.

    Args:
        bare: takes a step of the bare loop.
        setting: how many steps are compared at a time.
        seconds: for how long, at least.
    """

    def __init__(self, bare: Callable[[], None], setting: Setting, seconds: float) -> None:
        self.bare, self.setting, self.seconds = bare, setting, seconds
        self.blocks: list[tuple[float, float]] = []
        """Seconds a step, of the trainer's and of the bare loop's."""
        self._steps = -setting.warm
        self._end = self._all = self._own = 0.0

    def take(self, trainer: Any) -> None:
        """Between two of the trainer's steps."""
        block = self.setting.block
        if self._steps >= 0 and self._steps % block == 0:
            now = _clock()
            if self._steps:
                self.blocks.append(((now - self._all - self._own) / block, self._own / block))
            else:
                self._end = time.perf_counter() + self.seconds
            self._all, self._own = now, 0.0
            if len(self.blocks) >= self.setting.blocks and time.perf_counter() > self._end:
                trainer.should_stop = True
        begin = _own_clock()
        self.bare()
        self._own += _own_clock() - begin
        self._steps += 1


def _clock() -> float:
    """Processor seconds of the whole process; seconds where a GPU works."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _own_clock() -> float:
    """The same without other threads', which are the trainer's, unless torch has several itself."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.thread_time() if alone else _clock()


def measure(setting: Setting, seconds: float) -> list[tuple[float, float]]:
    """Seconds a step, of the trainer's and of the bare loop's, block by block."""
    from lit_lm.training import run_cli

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        # A progress bar is drawn, as in a terminal.
        environ = {"LIT_LM_CACHE": f"{folder}/cache", "FORCE_COLOR": "1", "COLUMNS": "120"}
        stack.enter_context(mock.patch.dict(os.environ, environ))
        stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        config = _write(Path(folder), setting)
        Interleaved.turns = turns = Turns(_bare(Path(folder), setting), setting, seconds)
        run_cli(["fit", "--config", str(config)])
    return turns.blocks


def _bare(folder: Path, setting: Setting) -> Callable[[], None]:
    """A plain loop over the same data: loader, loss, backward, clipping, AdamW, schedule."""
    source = TextFiles(train=str(folder / "text.txt"), val=str(folder / "val.txt"))
    data = TextData(source, TokenizerConfig(**_tokenizer(setting)), **_rows(setting))
    torch.manual_seed(0)
    net = GPTConfig(**_net(setting))
    task = CausalLM(net, data.spec, OptimConfig(**_OPTIM)).to(training.device()).train()
    optimizer = task.optim.build(task)
    batches = iter(data.train_dataloader())
    schedule = LambdaLR(optimizer, lambda step: task.optim.factor(step, step / setting.steps))

    def step() -> None:
        batch = move_data_to_device(next(batches), training.device())
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss(batch)
        (loss.total / loss.targets).backward()
        clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    return step


def _net(setting: Setting) -> dict[str, Any]:
    return {
        "num_layers": setting.layers,
        "num_heads": max(1, setting.width // 64),
        "d_model": setting.width,
        "dropout": 0.0,
    }


def _rows(setting: Setting) -> dict[str, Any]:
    return {"length": setting.length, "batch_size": setting.rows}


def _tokenizer(setting: Setting) -> dict[str, Any]:
    return {"kind": "word", "vocab_size": setting.vocab}


def _write(folder: Path, setting: Setting) -> Path:
    """Random words, and the experiment that reads them."""
    rng = random.Random(0)
    words = [f"w{i}" for i in range(setting.vocab)]
    size = setting.rows * setting.length * setting.steps
    (folder / "text.txt").write_text(" ".join([*words, *rng.choices(words, k=size)]))
    (folder / "val.txt").write_text("w0 w1")
    files = {key: str(folder / f"{name}.txt") for key, name in (("train", "text"), ("val", "val"))}
    config = {
        "run": {"name": "overhead", "dir": str(folder)},
        "trainer": {
            "log_every_n_steps": setting.log_every,
            "limit_val_batches": 0,
            "enable_model_summary": False,
        },
        "data": {
            "class_path": f"{__name__}.Interleaved",
            "init_args": {
                "source": {"class_path": "lit_lm.data.TextFiles", "init_args": files},
                "tokenizer": _tokenizer(setting),
                **_rows(setting),
            },
        },
        "model": {
            "class_path": "lit_lm.tasks.CausalLM",
            "init_args": {
                "net": {"class_path": "lit_lm.models.GPTConfig", "init_args": _net(setting)},
                "optim": _OPTIM,
            },
        },
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
