import io
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from lit_lm.compare import load, run_comparison

COMMAND = (sys.executable, str(Path(__file__).with_name("fake_member.py")))
LM = {"league": "language models", "seconds": 85.2, "loss": 1.62, "optimal_loss": 1.6}
SAMPLES = [
    {
        "prompt": "the quiet fox <script>alert(1)</script>",
        "output": "sees a river",
        "reference": "sees a river",
    },
    {"prompt": "some birds", "output": 'sing "&" <b>rest</b>', "reference": "sing all day long"},
]
TRANSLATOR = {
    "league": "translators",
    "seconds": 130.0,
    "loss": 0.11,
    "parameters": 1_250_000,
    "test": {"bleu": 97.25, "exact_match": 0.931},
    "samples": [{"source": "ein Fuchs", "output": "a fox", "reference": "a fox"}],
}


class House:
    """A folder with experiments and a comparison of them, run with fake members."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.members: list[dict] = []
        self.settings: dict = {"budget": {"unit": "tokens", "amount": 2_000_000}}
        self.console = Console(file=io.StringIO(), width=200)

    def add(self, name: str, fake: dict, **member) -> Path:
        path = self.folder / f"{name}_experiment.yaml"
        task = (
            "lit_lm.tasks.CausalLM"
            if fake["league"] == "language models"
            else "lit_lm.tasks.Translation"
        )
        net = {"class_path": "lit_lm.models.GPTConfig"}
        path.write_text(
            yaml.safe_dump({"fake": fake, "model": {"class_path": task, "init_args": {"net": net}}})
        )
        self.members = [m for m in self.members if m["name"] != name]
        self.members.append({"name": name, "config": path.name, **member})
        return path

    def write(self) -> Path:
        path = self.folder / "small.yaml"
        output = str(self.folder / "out")
        path.write_text(
            yaml.safe_dump({"output_dir": output, "members": self.members, **self.settings})
        )
        return path

    def run(self, **settings) -> Path:
        return run_comparison(load(self.write()), command=COMMAND, console=self.console, **settings)

    @property
    def output(self) -> Path:
        return self.folder / "out" / "small"

    def starts(self) -> list[str]:
        """Members that were started since this was last asked."""
        path = self.folder / "out" / "starts.txt"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names


@pytest.fixture
def house(tmp_path) -> House:
    return House(tmp_path)
