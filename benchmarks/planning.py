"""What `lit-lm plan` says a step keeps, beside what real steps keep: docs/results/plan.md.

python -m benchmarks.planning [--only GPT,ELMo,...] [--out docs/results/plan]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves

from lit_lm.planning.settings import experiment_job
from lit_lm.settings import arguments, parse_data, parse_settings
from lit_lm.tasks import Task
from lit_lm.training import quieten

_HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
# Tiny to middle-sized, over the built-in language: rows of real batches.
_WIDE = "--model.init_args.net.init_args"
CASES: dict[str, list[str]] = {
    "GPT": ["experiment/builtin_gpt"],
    "GPT 8 x 512": [
        "experiment/builtin_gpt",
        f"{_WIDE}.num_layers=8",
        f"{_WIDE}.num_heads=8",
        f"{_WIDE}.d_model=512",
        f"{_WIDE}.d_ff=2048",
    ],
    "BERT": ["experiment/builtin_bert"],
    "ELMo": ["experiment/builtin_elmo"],
    "RNN": ["experiment/builtin_rnn"],
    "Transformer": ["experiment/builtin_transformer"],
    "Transformer 6 x 512": [
        "experiment/builtin_transformer",
        f"{_WIDE}.num_layers=6",
        f"{_WIDE}.num_heads=8",
        f"{_WIDE}.d_model=512",
        f"{_WIDE}.d_ff=2048",
        f"{_WIDE}.dropout=0.1",
    ],
    "BERT classifier": ["experiment/builtin_news"],
}


@dataclass(frozen=True)
class Kept:
    """Bytes of a real step.

    Args:
        weights: storages of the parameters.
        gradients: of their gradients behind the backward pass.
        optimizer: of all tensors in the optimizer's state.
        forward: what autograd saved besides weights, each storage once, with the gradients that the loss has taken ahead
            and the batch itself.
    """

    weights: int
    gradients: int
    optimizer: int
    forward: int


def kept(task: Task, batch: Any, precision: str = "32-true", steps: int = 2) -> Kept:
    """Trains for some steps on a batch, and looks at the last of them."""
    task.train()
    optimizer = task.optim.build(task, depth_of=task.depth_of)
    weights = {_place(x) for x in (*task.parameters(), *task.buffers())}
    half = _HALF.get(precision)
    saved: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if _place(x) not in weights:
            saved[_place(x)] = x.untyped_storage().nbytes()
        return x

    for _ in range(steps):
        optimizer.zero_grad()
        saved.clear()
        mixed = torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None)
        with mixed, saved_tensors_hooks(pack, lambda x: x):
            loss = task.loss(batch).total
            for x in (*tree_leaves(batch), *_ahead(loss)):
                if isinstance(x, Tensor):
                    pack(x)
        loss.backward()
        optimizer.step()
    learning = [p.grad for p in task.parameters() if p.grad is not None]
    states = [x for x in tree_leaves(optimizer.state_dict()) if isinstance(x, Tensor)]
    return Kept(_bytes(task.parameters()), _bytes(learning), _bytes(states), sum(saved.values()))


def _ahead(loss: Tensor) -> Iterator[Any]:
    """Gradients that the nodes of a loss hold, beside what autograd saves for them."""
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield from getattr(node, "gradients", None) or ()
        nodes += [n for n, _ in node.next_functions]


def _place(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _bytes(tensors: Any) -> int:
    return sum({_place(x): x.untyped_storage().nbytes() for x in tensors}.values())


def compare(name: str, flags: list[str], precision: str) -> dict[str, Any]:
    """A plan for a batch of the shape of an experiment's first one, beside that batch trained on."""
    config, *rest = flags
    rest = [*rest, f"--trainer.precision={precision}"]
    data = parse_data(["--config", config, *rest])
    # Small texts fill less than the vocabulary that is asked for, which is what a plan goes by.
    words = f"--data.init_args.tokenizer.vocab_size={data.tokenizer.vocab_size}"
    job = experiment_job(config, [*rest, words])
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    settings = parse_settings(["--config", config, *rest], "plan")["model"]
    module, _, kind = settings["class_path"].rpartition(".")
    task_class = getattr(__import__(module, fromlist=[kind]), kind)
    torch.manual_seed(0)
    task = task_class(**(arguments(task_class, settings["init_args"]) | {"spec": data.spec}))
    real = kept(task, batch, precision)
    ids = [getattr(batch, k) for k in ("src_ids_BS", "tgt_ids_BT") if hasattr(batch, k)]
    lengths = tuple(x.size(1) for x in ids) or (batch.ids_BL.size(1),)
    found = job.measure(batch.size.rows, job.precision, False, lengths)
    return {
        "name": name,
        "precision": precision,
        "parameters": job.sizes.total,
        "rows": batch.size.rows,
        "lengths": lengths,
        "measured": dataclasses.asdict(real),
        "planned": {
            "weights": found.weights,
            "gradients": found.gradients,
            "optimizer": found.optimizer,
            "forward": found.kept,
        },
        "content": found.content,
    }


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    parser.add_argument("--only", default="", help="names, separated by commas; all when empty")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file to write")
    args = parser.parse_args()
    quieten()
    chosen = args.only.split(",") if args.only else list(CASES)
    print(
        "| step | precision | parameters | rows x tokens | weights, gradients, optimizer | forward, measured | planned | off |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for precision, name in itertools.product(("32-true", "bf16-mixed"), chosen):
        rows.append(compare(name, CASES[name], precision))
        print(_line(rows[-1]), flush=True)
        if args.out is not None:
            args.out.write_text(json.dumps(rows, indent=1) + "\n")


def _line(row: dict[str, Any]) -> str:
    real, plan = row["measured"], row["planned"]
    exact = all(real[k] == plan[k] for k in ("weights", "gradients", "optimizer"))
    at = " + ".join(map(str, row["lengths"]))
    off = plan["forward"] / real["forward"] - 1
    return (
        f"| {row['name']} | {row['precision']} | {row['parameters']:,} | {row['rows']} x {at} "
        f"| {'equal' if exact else 'UNEQUAL'} "
        f"| {real['forward'] / 1e6:,.2f} MB | {plan['forward'] / 1e6:,.2f} MB | {off:+.1%} |"
    )


if __name__ == "__main__":
    main()
