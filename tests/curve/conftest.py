import io
import json
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from lit_lm.compare.files import read_json
from lit_lm.curve import load, run_curve

# Without site-packages, which it does not need, it starts in a moment.
COMMAND = (sys.executable, "-I", "-S", str(Path(__file__).with_name("fake_run.py")))


class House:
    """A folder with experiments and a curve over them, made of fake runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawn: list[Path] = []
        self.console = Console(file=io.StringIO(), width=200)
        self.experiment("news")
        self.experiment("lm", checkpoint="weights")
        self.experiment("net")
        self.settings: dict = {
            "output_dir": str(folder / "out"),
            "tasks": [{"name": "news", "config": "news.yaml"}],
            "encoders": [{"name": "bert", "pretrain": "lm.yaml"}, {"name": "lstm", "net": "net"}],
            "labels": [10, 100, "all"],
            "seeds": 2,
        }

    def experiment(self, name: str, **fake) -> None:
        (self.folder / f"{name}.yaml").write_text(json.dumps({"fake": fake}))

    def write(self) -> Path:
        path = self.folder / "small.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        return path

    def run(self, **settings) -> dict:
        run_curve(load(self.write()), command=COMMAND, console=self.console, jobs=4, **settings)
        return self.found()

    def go(self, on: bool = True) -> None:
        """Lets runs end that wait, or lets them wait."""
        path = self.folder / "out" / "go"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        if not on:
            path.unlink()

    def found(self) -> dict:
        return read_json(self.output / "results.json")

    @property
    def output(self) -> Path:
        return self.folder / "out" / "small"

    def starts(self) -> list[str]:
        """Runs that were started since this was last asked."""
        path = self.folder / "out" / "starts.txt"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names


@pytest.fixture
def house(tmp_path, monkeypatch) -> House:
    """Its plots are not drawn: that takes longer than all the rest."""
    house = House(tmp_path)
    monkeypatch.setattr("lit_lm.curve.run.draw", lambda found, paths: house.drawn.extend(paths))
    return house
