"""How running jobs look: one live table in a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lit_lm.compare.files import read_json
from lit_lm.compare.numbers import clock, compact

# More jobs than this are counted, and only those that run or have failed shown one by one.
_MOST_ROWS = 24
_STYLES = {
    "waiting": "dim",
    "running": "bold",
    "done": "green",
    "kept": "green",
    "failed": "bold red",
}


class State:
    """One job, as far as a display needs to know.

    Attributes:
        name: the job's name.
        status: "waiting", "running", "done", "kept" or "failed".
        progress: what the job last said: stage, fraction, step, loss, tokens_per_second.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = "waiting"
        self.progress: dict[str, Any] = {}
        self._started = self._ended = 0.0

    def start(self) -> None:
        """Its process runs."""
        self.status, self._started = "running", time.monotonic()

    def finish(self, status: str) -> None:
        """It has ended."""
        self.status, self._ended = status, time.monotonic()

    def read(self, path: Path) -> None:
        """Takes what the job's process last wrote."""
        self.progress = read_json(path) or self.progress

    @property
    def stage(self) -> str:
        """What it does, in a word."""
        return (
            str(self.progress.get("stage", "starting")) if self.status == "running" else self.status
        )

    @property
    def fraction(self) -> float:
        """Share of its training that is done, 0 to 1."""
        if self.status in ("done", "kept"):
            return 1.0
        return min(1.0, max(0.0, float(self.progress.get("fraction") or 0.0)))

    @property
    def elapsed(self) -> float | None:
        """Seconds since it started, or that it took; None if it did not start."""
        if not self._started:
            return None
        return (time.monotonic() if self.status == "running" else self._ended) - self._started

    @property
    def left(self) -> float | None:
        """Seconds of training that are left, at the rate so far; None if not known."""
        rate, elapsed = self.fraction, self.elapsed
        if self.status != "running" or elapsed is None or not 0.02 < rate < 1:
            return None
        return elapsed / rate * (1 - rate)

    def number(self, key: str, form: str) -> str:
        """A number that the job reported, or nothing."""
        value = self.progress.get(key)
        if not isinstance(value, (int, float)):
            return ""
        return compact(value) if form == "compact" else format(value, form)


class Display(Protocol):
    """Shows jobs while it is entered as a context."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, states: list[State]) -> None:
        """Called often, with all jobs."""

    def say(self, text: str) -> None:
        """Something to keep on the screen."""


class LiveDisplay:
    """A table that is drawn over and over, with a bar for each job."""

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        self._live = Live(console=console, refresh_per_second=4)
        self._drawn = 0.0

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, states: list[State]) -> None:
        """Draws the table, four times a second at most (and whenever all is over)."""
        over = all(state.status not in ("waiting", "running") for state in states)
        if over or time.monotonic() - self._drawn > 0.25:
            self._drawn = time.monotonic()
            self._live.update(self._table(states), refresh=True)

    def say(self, text: str) -> None:
        """Prints above the table."""
        self._live.console.print(Text(text))

    def _table(self, states: list[State]) -> Table:
        table = Table(
            title=self._title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
        )
        table.add_column("member")
        table.add_column("")
        table.add_column("")
        for heading in ("", "step", "loss", "tokens/s", "time", "left"):
            table.add_column(heading, justify="right")
        for state in _shown(states):
            table.add_row(
                Text(state.name),
                Text(state.stage, style=_STYLES[state.status]),
                ProgressBar(total=1.0, completed=state.fraction, width=24),
                f"{state.fraction:.0%}",
                state.number("step", ",.0f"),
                state.number("loss", ".3f"),
                state.number("tokens_per_second", "compact"),
                clock(state.elapsed),
                clock(state.left),
            )
        if len(states) > _MOST_ROWS:
            counts = Counter(state.status for state in states)
            table.add_row(Text(", ".join(f"{n:,} {status}" for status, n in counts.items())))
        return table


class PlainDisplay:
    """Lines for logs: when something begins or ends, and about every ten seconds."""

    def __init__(self, every: float = 10.0) -> None:
        self._every = every
        self._stages: dict[str, str] = {}
        self._last = time.monotonic()

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def show(self, states: list[State]) -> None:
        """Prints what is new."""
        due = time.monotonic() - self._last >= self._every
        for state in states:
            changed = self._stages.get(state.name) != state.stage and state.status != "waiting"
            if changed or (due and state.status == "running"):
                self._stages[state.name] = state.stage
                self.say(self._line(state))
        if due:
            self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Prints a line at once, also into a pipe."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    @staticmethod
    def _line(state: State) -> str:
        parts = [f"{state.name}: {state.stage}"]
        if state.status == "running" and state.progress:
            loss, rate = state.number("loss", ".3f"), state.number("tokens_per_second", "compact")
            parts += [f"{state.fraction:.0%}", f"step {state.number('step', ',.0f')}"]
            parts += [f"loss {loss}"] * bool(loss) + [f"{rate} tokens/s"] * bool(rate)
        parts += [clock(state.elapsed)] * (state.elapsed is not None)
        return ", ".join(parts)


def _shown(states: list[State]) -> list[State]:
    if len(states) <= _MOST_ROWS:
        return states
    failed = [state for state in states if state.status == "failed"]
    return failed[-_MOST_ROWS // 2 :] + [state for state in states if state.status == "running"]


def choose_display(console: Console, title: str) -> Display:
    """The table where there is a terminal to draw it in, else lines."""
    return LiveDisplay(console, title) if console.is_terminal else PlainDisplay()
