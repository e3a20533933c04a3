"""A plan for people and for programs to read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lit_lm.planning.advice import counted
from lit_lm.planning.plan import Plan

_PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "buffers", "total")
_NOTES = """\
Rows are taken as full. Not counted: the driver's and the libraries' own memory, communication, fragments. FLOPs are those of
the model's matrix products, forward and backward, attention whole; a layer that is computed again costs time, not FLOPs."""


def table(plan: Plan) -> str:
    """A plan for people."""
    lines = [*_head(plan), "", *_memory(plan), "", *_speed(plan)]
    if plan.changes:
        lines += ["", f"{plan.chosen.strategy.name} does not fit. What would make it fit:"]
        lines += [f"  {_gb(c.total):>9} GB  {c.text}" for c in plan.changes]
    elif plan.chosen.fits is False:
        lines += ["", "Nothing makes it fit: not even sharding over 65,536 devices."]
    if plan.content:
        lines += ["", "An operation asks for content, so that a step was taken with weights."]
    return "\n".join([*lines, "", *_NOTES.splitlines()])


def as_dict(plan: Plan) -> dict[str, Any]:
    """A plan in plain types."""
    job = plan.job
    return {
        "name": job.name,
        "architecture": job.architecture,
        "vocab_size": job.vocab_size,
        "lengths": list(job.lengths),
        "parameters": job.sizes.total,
        "embedding_parameters": job.sizes.embeddings,
        "rows": job.rows,
        "accumulate": job.accumulate,
        "precision": job.precision,
        "optimizer": job.optimizer,
        "devices": job.devices,
        "device": plan.device._asdict(),
        "mfu": plan.mfu,
        "flops_per_token": job.flops,
        "tokens": plan.total_tokens,
        "flops": plan.total_flops,
        "strategies": [
            {
                "name": row.strategy.name,
                "memory": asdict(row.memory) | {"total": row.memory.total},
                "fits": row.fits,
                "tokens_per_second": row.tokens_per_second,
                "hours": row.hours,
                "device_hours": row.device_hours,
            }
            for row in plan.rows
        ],
        "chosen": plan.chosen.strategy.name,
        "changes": [asdict(change) for change in plan.changes],
        "content": plan.content,
    }


def _head(plan: Plan) -> list[str]:
    job, device = plan.job, plan.device
    at = " + ".join(f"{n:,}" for n in job.lengths)
    step = job.rows * job.tokens * job.accumulate * job.devices
    peak = (
        "peak not known" if device.flops is None else f"{device.flops / 1e12:,.4g} TFLOP/s at most"
    )
    memory = "memory not known (--memory)" if device.memory is None else f"{_gb(device.memory)} GB"
    inner = job.sizes.total - job.sizes.embeddings
    return [
        f"{job.name}: {job.architecture}, vocabulary of {job.vocab_size:,}",
        "",
        f"parameters  {job.sizes.total:,} ({inner:,} without embeddings)",
        f"devices     {job.devices:,} x {device.name}: {peak} in {job.precision}, {memory}",
        f"step        {counted(job.rows, 'row')} of {at} tokens x {counted(job.accumulate, 'batch')} x "
        f"{counted(job.devices, 'device')} = {step:,.0f} tokens; {job.optimizer}",
    ]


def _memory(plan: Plan) -> list[str]:
    rows = [["GB on a device", *_PARTS, "fits"]]
    for row in plan.rows:
        sizes = [_gb(getattr(row.memory, part)) for part in _PARTS]
        fits = {None: "?", True: "yes", False: "no"}[row.fits]
        if row.fits is False and plan.device.memory is not None:
            fits = f"no, by {_gb(row.memory.total - plan.device.memory)}"
        rows.append([_name(plan, row.strategy.name), *sizes, fits])
    return _aligned(rows)


def _speed(plan: Plan) -> list[str]:
    job, total = plan.job, plan.total_tokens
    lines = [f"FLOPs       {job.flops:.4g} per token"]
    if total is not None and plan.total_flops is not None:
        rule = 6 * job.sizes.total * total
        lines.append(
            f"            {plan.total_flops:.4g} for {total:.4g} tokens (6 x parameters x tokens: {rule:.4g})"
        )
    else:
        lines.append(
            "            in total: how many tokens is not known without the data; give --tokens"
        )
    rows = [[f"at {plan.mfu:.0%} of the peak", "tokens/s", "hours", "device-hours"]]
    for row in plan.rows:
        numbers = (row.tokens_per_second, row.hours, row.device_hours)
        cells = ["?" if n is None else _number(n) for n in numbers]
        rows.append([_name(plan, row.strategy.name), *cells])
    return [*lines, "", *_aligned(rows)]


def _name(plan: Plan, name: str) -> str:
    return f"{name} (chosen)" if name == plan.chosen.strategy.name else name


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gb(count: float) -> str:
    """Gigabytes, 10^9 bytes."""
    size = count / 1e9
    return f"{size:,.0f}" if size >= 1000 else f"{size:,.1f}" if size >= 10 else f"{size:.3f}"
