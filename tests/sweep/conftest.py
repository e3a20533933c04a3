import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from lit_lm.compare.files import read_json
from lit_lm.sweep import load, run_sweep

from ..compare.conftest import COMMAND, LM, read

RATE, WIDTH = "model.init_args.optim.lr", "model.init_args.net.init_args.d_model"


class Bench:
    """A folder with an experiment and a sweep over it, run with fake members."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fake = dict(LM)
        self.settings = {
            "config": "experiment.yaml",
            "method": "grid",
            "metric": {"name": "val/loss"},
            "output_dir": str(folder / "out"),
            "parameters": {RATE: {"values": [0.001, 0.002, 0.004]}, WIDTH: {"values": [64, 128]}},
        }
        self.console = Console(file=io.StringIO(), width=120)

    def write(self) -> Path:
        net = {"class_path": "lit_lm.models.GPTConfig"}
        model = {"class_path": "lit_lm.tasks.CausalLM", "init_args": {"net": net}}
        experiment = {"fake": self.fake, "model": model}
        (self.folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
        path = self.folder / "rates.yaml"
        path.write_text(yaml.safe_dump(self.settings, sort_keys=False))
        return path

    def load(self):
        return load(self.write())

    def run(self, **settings) -> Path:
        return run_sweep(self.load(), command=COMMAND, console=self.console, read=read, **settings)

    @property
    def output(self) -> Path:
        return self.folder / "out" / "rates"

    def found(self) -> dict:
        return read_json(self.output / "results.json")

    def starts(self) -> list[str]:
        """Members that were started since this was last asked, sorted."""
        path = self.folder / "out" / "starts.txt"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return sorted(names)

    def said(self) -> str:
        return self.console.file.getvalue()


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)
