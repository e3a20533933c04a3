"""The built-in language tells shallow networks from deep ones, and deep ones come close to its optimum."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from lightning.pytorch import seed_everything

from lit_lm import Budget, CausalLM, OptimConfig, TextData, TokenizerConfig, configs
from lit_lm.data import BuiltinText
from lit_lm.models import GPTConfig
from tests import tiny
from tests.conftest import ROOT


def perplexity(num_layers: int, folder: Path) -> tuple[float, float]:
    """Test perplexity after the shipped recipe's budget, and the best possible one."""
    recipe = yaml.safe_load((ROOT / "configs/experiment/builtin_gpt.yaml").read_text())
    budget = {"unit": "tokens", "amount": 833e3}  # about 5.2 TFLOP for four layers
    net = configs.architecture("model/gpt_builtin")
    assert isinstance(net, GPTConfig)
    optim = recipe["model"]["init_args"]["optim"]
    data = TextData(
        BuiltinText(train=15_000, val=50, test=400),
        TokenizerConfig(kind="word", vocab_size=2000),
        length=160,
        rows="documents",
        batch_size=16,
    )
    seed_everything(0)
    task = CausalLM(
        dataclasses.replace(net, num_layers=num_layers),
        data.spec,
        OptimConfig(**{**optim, "betas": tuple(optim["betas"])}),
    )
    task.meter.budget = Budget(**budget)
    trainer = tiny.trainer(
        folder, max_epochs=-1, max_steps=-1, gradient_clip_val=1.0, limit_val_batches=0
    )
    trainer.fit(task, data)
    (result,) = trainer.test(task, data, verbose=False)
    return result["test/ppl"], result["test/optimal_ppl"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_four_layers_come_near_the_optimum_and_one_does_not(tmp_path: Path) -> None:
    deep, optimum = perplexity(4, tmp_path)
    shallow, _ = perplexity(1, tmp_path)
    assert deep <= 1.05 * optimum
    assert shallow >= 1.10 * deep
