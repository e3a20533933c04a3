"""Out of memory: one error that names the settings to change, with their present values."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lit_lm.errors import InputError

_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
)


@contextmanager
def explained(verb: str, config: Any) -> Iterator[None]:
    """Turns a failed allocation into an InputError.

    Args:
        verb: what is run: fit, validate, test or predict.
        config: its settings (a Namespace that takes dotted keys).

    Raises:
        InputError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        cause = shortage(error)
        if cause is None:
            raise
        reason = (str(cause).splitlines() or [""])[0][:300] or type(cause).__name__
        raise InputError(f"out of memory in {verb} ({reason}). {advice(verb, config)}") from error


def shortage(error: BaseException | None) -> BaseException | None:
    """The failed allocation among an error and its causes; None if there is none."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return error
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return error
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES):
            return error
        error = error.__cause__
    return None


def advice(verb: str, config: Any) -> str:
    """What to change: only settings that the run has, with what they are now."""
    tips = []
    for key in ("data.init_args.batch_size", "data.init_args.batch_tokens"):
        now = config.get(key)
        if now is not None and now > 1:
            tips.append(
                f"smaller batches with --{key}={now // 2} (now {now})" + _same_step(verb, config)
            )
    for key in ("data.init_args.length", "data.init_args.max_length"):
        if config.get(key) is not None:
            tips.append(f"shorter rows with --{key} (now {config.get(key)})")
    if verb == "fit" and config.get("activation_checkpointing") is False:
        tips.append("layers computed twice with --activation_checkpointing=true (now false)")
    precision = str(config.get("trainer.precision"))
    if "16" not in precision:
        tips.append(f"half precision with --trainer.precision=bf16-mixed (now {precision})")
    return f"Choose {', or '.join([*tips, 'a smaller model'])}"


def _same_step(verb: str, config: Any) -> str:
    now = config.get("trainer.accumulate_grad_batches")
    if verb != "fit" or not isinstance(now, int):
        return ""
    return f" and --trainer.accumulate_grad_batches={2 * now} (now {now}), which keeps the optimizer's step the same"
