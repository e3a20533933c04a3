"""Where the time of training steps goes, with ``configs/trainer/profile.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.profilers import PyTorchProfiler

from lit_lm.errors import check_counts


class StepProfiler(PyTorchProfiler):
    """PyTorch's profiler over a few training steps, Lightning's hooks included.

    When training ends it prints the operators that took the most time themselves; ``trace.json`` in the run's folder is
    for https://ui.perfetto.dev or chrome://tracing.

    Args:
        skip: steps that are left out: the first ones allocate and choose algorithms.
        warmup: steps that are recorded and thrown away.
        steps: steps that are recorded.
        rows: operators in the table.
        dirpath: folder of the trace; None for the run's.
    """

    AVAILABLE_SORT_KEYS = PyTorchProfiler.AVAILABLE_SORT_KEYS | {
        "self_cpu_time_total",
        "self_device_time_total",
    }

    def __init__(
        self,
        skip: int = 10,
        warmup: int = 2,
        steps: int = 10,
        rows: int = 25,
        dirpath: str | None = None,
    ) -> None:
        gpu = torch.cuda.is_available()
        # Checked behind it: also a profiler whose settings are refused is torn down.
        plan = {"wait": max(skip, 0), "warmup": max(warmup, 0), "active": max(steps, 1)}
        super().__init__(
            dirpath,
            row_limit=rows,
            table_kwargs={"max_name_column_width": 80},
            sort_by_key="self_device_time_total" if gpu else "self_cpu_time_total",
            schedule=torch.profiler.schedule(**plan, repeat=1),
            on_trace_ready=self._export,
        )
        self.skip, self.warmup, self.steps, self.rows = skip, warmup, steps, rows
        check_counts(self, "skip", "warmup", least=0)
        check_counts(self, "steps", "rows")

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """Finds its folder."""
        super().setup(stage, local_rank, log_dir)
        self.dirpath = self.dirpath or log_dir

    def _create_profiler(self, profiler: Any) -> Any:
        made = super()._create_profiler(profiler)
        # Lightning's name, at every step: a warning for each that is not recorded.
        made.add_metadata = lambda key, value: None  # type: ignore[method-assign,union-attr]
        return made

    def _export(self, profiler: Any) -> None:
        folder = Path(self.dirpath or ".")
        folder.mkdir(parents=True, exist_ok=True)
        rank = f"-{self.local_rank}" if self.local_rank else ""
        profiler.export_chrome_trace(str(folder / f"trace{rank}.json"))
