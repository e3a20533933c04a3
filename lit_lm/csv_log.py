"""``metrics.csv``: every logged row once, also over kills and resumes."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lit_lm.errors import InputError


class CSVLog(Logger):
    """Appends rows to ``folder/metrics.csv``; new columns are added to the rows before, empty.

    A resumed run keeps the rows that its checkpoint knows (their number stands in it) and writes on behind them: what a
    killed run wrote past its last checkpoint is superseded.

    Args:
        folder: where the file is.
        keep_rows: rows of a file that is there already to keep; 0 for a new start.
        flush_every: rows held back at most; they are written too whenever a checkpoint is.
    """

    def __init__(self, folder: Path, *, keep_rows: int = 0, flush_every: int = 20) -> None:
        super().__init__()
        self.folder, self.path = Path(folder), Path(folder) / "metrics.csv"
        self._keep, self._flush_every = keep_rows, flush_every
        self._columns: list[str] | None = None
        self._waiting: list[dict[str, Any]] = []
        self.rows = 0
        """Rows so far, those not written yet included."""

    @property
    def name(self) -> str:
        """Of the logger, as Lightning asks for it."""
        return ""

    @property
    def version(self) -> str:
        """Likewise."""
        return ""

    @property
    def save_dir(self) -> str:
        """Likewise: where it writes."""
        return str(self.folder)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They are in the checkpoint and in ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Adds a row."""
        self._open()
        row = {key: float(value) for key, value in metrics.items()}
        whole = {key: int(v) if math.isfinite(v) and v == int(v) else v for key, v in row.items()}
        self._waiting.append(whole | ({} if step is None else {"step": step}))
        self.rows += 1
        if len(self._waiting) >= self._flush_every:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Writes the rows that wait.

        Raises:
            InputError: the file cannot be written.
        """
        if not self._waiting:
            return
        assert self._columns is not None
        new = sorted({key for row in self._waiting for key in row} - set(self._columns))
        try:
            if new:
                self._rewrite([*self._columns, *new], self.rows - len(self._waiting))
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns).writerows(self._waiting)
        except OSError as error:
            raise InputError(
                f"{self.path} could not be written: {error.strerror or error}. Make room, or set another run.dir, and "
                "go on with --ckpt_path=last"
            ) from error
        self._waiting.clear()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Lightning's hook: the run is over."""
        self.save()

    def read(self) -> Iterator[dict[str, float]]:
        """The rows so far, without empty cells; from a folder of another rank nothing."""
        self._open()
        self.save()
        for row in self._read():
            yield {key: float(value) for key, value in row.items() if value}

    def _open(self) -> None:
        """On the first row: takes up the file that is there, or does away with it."""
        if self._columns is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._columns = []
        if self._keep == 0 or not self.path.is_file():
            self.path.unlink(missing_ok=True)
            return
        with self.path.open(encoding="utf-8", newline="") as file:
            self._columns = next(csv.reader(file), [])
        self._rewrite(self._columns, self._keep)
        self.rows = sum(1 for _ in self._read())

    def _rewrite(self, columns: list[str], most: int) -> None:
        """Gives the file these columns, and at most so many rows."""
        temporary = self.path.with_name(self.path.name + ".tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(row for i, row in enumerate(self._read()) if i < most)
        temporary.replace(self.path)
        self._columns = columns

    def _read(self) -> Iterator[dict[str, str]]:
        """The complete rows on disk: a killed process can leave half a line."""
        if not self.path.is_file():
            return
        with self.path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            columns = next(reader, [])
            for row in reader:
                if len(row) == len(columns):
                    yield dict(zip(columns, row, strict=True))
