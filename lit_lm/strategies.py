"""Lightning's FSDP2 with the suite's checkpoints: by default one file that any other strategy can go on from."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from lit_lm import checkpoints, shard_files, sharding
from lit_lm.tasks.plain import check_weights


class FullyShard(ModelParallelStrategy):
    """Weights, gradients and optimizer states sharded over all processes (FSDP2), by Lightning's ``ModelParallelStrategy``.

    Args:
        save_distributed_checkpoint: every process writes its part into a folder, instead of the first one all of it
            into one file, for which it must have room. ``lit-lm consolidate`` makes a file of a folder.
        process_group_backend: as Lightning's; None for what suits the device.
        timeout_seconds: after which a collective that is not answered fails.
    """

    whole_in_evaluation = True
    """Weights are gathered before an evaluation, in which processes may have unequal numbers of batches."""

    def __init__(
        self,
        save_distributed_checkpoint: bool = False,
        process_group_backend: str | None = None,
        timeout_seconds: float = 1800.0,
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_seconds),
        )

    def setup_environment(self) -> None:
        """All processes share the weights, whichever host they are on."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """As a single process has it in a file, and by names in a folder."""
        assert self.model is not None
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        whole = not self._save_distributed_checkpoint
        options = StateDictOptions(full_state_dict=whole, cpu_offload=True)
        state = get_optimizer_state_dict(self.model, optimizer, options=options)
        return shard_files.numbered(state) if whole and state else state

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Writes a file or a folder, in place of what was there."""
        path = Path(self.broadcast(filepath))
        if self.global_rank == 0:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.barrier()
        super().save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Puts weights and optimizers in place, of a file or a folder, whoever wrote it; what else it holds comes back.
        Nothing that is read can run code.
        """
        assert self.model is not None
        assert self.lightning_module is not None
        path = self.broadcast(str(checkpoint_path))
        sharded = shard_files.is_sharded(path)
        content = checkpoints.load(path, lazily=sharded)
        check_weights(self.lightning_module, content)
        optimizers = self.optimizers if self.lightning_module.trainer.state.fn == "fit" else []
        if sharded:
            self._take_shards(Path(path), optimizers)
            return content
        mine = self.model.state_dict()
        weights = content["state_dict"].items()
        self.model.load_state_dict({n: sharding.shared_out(w, mine[n]) for n, w in weights})
        for optimizer, state in zip(optimizers, content.get("optimizer_states", ()), strict=False):
            optimizer.load_state_dict(_shared_out(state, optimizer))
        return content

    def _take_shards(self, path: Path, optimizers: list[torch.optim.Optimizer]) -> None:
        assert self.model is not None
        weights = {"state_dict": get_model_state_dict(self.model)}
        shard_files.read_into(weights, path)
        set_model_state_dict(self.model, weights["state_dict"])
        for i, optimizer in enumerate(optimizers):
            state = {f"optimizer_{i}": get_optimizer_state_dict(self.model, optimizer)}
            shard_files.read_into(state, path)
            set_optimizer_state_dict(self.model, optimizer, state[f"optimizer_{i}"])


def _shared_out(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A single process's state of an optimizer, in shards."""
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    moved = [p for group in optimizer.param_groups for p in group["params"]]
    parameters = dict(zip(numbers, moved, strict=True))
    values = {
        number: {
            key: sharding.shared_out(value, parameters[number]) if torch.is_tensor(value) else value
            for key, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return state | {"state": values}
