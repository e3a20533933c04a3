import io
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from rich.console import Console

from lit_lm.compare import load, run_comparison
from lit_lm.compare.files import read_json

COMMAND = (sys.executable, str(Path(__file__).with_name("fake_member.py")))
DEFAULTS = """
seed_everything: 0
data: {init_args: {seed: 0}}
model: {init_args: {optim: {lr: 0.001, muon_lr: 0.02}}}
"""
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
ELMO = LM | {
    "task": "BidirectionalLM",
    "loss": 1.66,
    "parameters": 1_100_000,
    "test": {"forward_ppl": 5.2, "backward_ppl": 5.31},
    "samples": [
        {
            "reference": "the fox sees a river",
            "output": "the fox sings a river",
            "output from the right": "the fox sees a river",
        }
    ],
}
BERT = {
    "league": "language models",
    "task": "MaskedLM",
    "seconds": 91.0,
    "loss": 0.93,
    "reads_text": False,
    "test": {
        "mlm_loss": 0.81,
        "mlm_accuracy": 0.712,
        "nsp_loss": 0.12,
        "nsp_accuracy": 0.963,
        "pll_ppl": 1.93,
        "pll_bpb": 0.226,
        "pll_accuracy": 0.779,
        "pll_optimal_ppl": 1.88,
        "pll_optimal_accuracy": 0.795,
    },
    "curves": {
        "val/mlm_loss": [6.4, 0.83],
        "val/mlm_accuracy": [0.04, 0.705],
        "val/nsp_loss": [0.7, 0.13],
        "val/nsp_accuracy": [0.5, 0.96],
    },
    "samples": [
        {
            "gaps": "the <mask> sees a river",
            "output": "the bird sees a river",
            "reference": "the fox sees a river",
        }
    ],
}


def read(flags, asks) -> dict:
    """The settings of a fake experiment: what its YAML and flags say, over the defaults of a real one."""
    content = OmegaConf.create(yaml.safe_load(DEFAULTS))
    for flag in flags:
        key, _, value = flag.removeprefix("--").partition("=")
        if key == "config":
            content = OmegaConf.merge(content, yaml.safe_load(Path(value).read_text()))
        else:
            OmegaConf.update(content, key, yaml.safe_load(value), force_add=True)
    return OmegaConf.to_container(content)


class House:
    """A folder with experiments and a comparison of them, run with fake members."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.members: list[dict] = []
        self.settings: dict = {"budget": {"unit": "tokens", "amount": 2_000_000}}
        self.console = Console(file=io.StringIO(), width=200)

    def add(self, name: str, fake: dict, **member) -> Path:
        path = self.folder / f"{name}_experiment.yaml"
        usual = {"language models": "CausalLM", "translators": "Translation"}
        task = f"lit_lm.tasks.{fake.get('task') or usual[fake['league']]}"
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
        return run_comparison(
            load(self.write()), command=COMMAND, console=self.console, read=read, **settings
        )

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


@pytest.fixture(scope="module")
def house_of_five(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Five members have run: three language models, one of which gives no probability of a text; to be read only."""
    house = House(tmp_path_factory.mktemp("five"))
    house.console.width = 100
    house.add("gpt", LM | {"samples": SAMPLES})
    house.add("elmo", ELMO)
    house.add("bert", BERT)
    house.add("rnn", TRANSLATOR | {"loss": 0.2, "test": {"bleu": 91.5, "exact_match": 0.802}})
    house.add("transformer", TRANSLATOR)
    house.run()
    return house


@pytest.fixture
def five(house_of_five: House) -> dict:
    """Their results."""
    return read_json(house_of_five.output / "results.json")
