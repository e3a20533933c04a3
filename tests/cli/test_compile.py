"""A compiled network trains as one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_lm.training import run_cli
from tests.cli import QUICK


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt", "mt"])
def test_a_compiled_network_has_the_same_losses_and_checkpoint(
    name: str, folder: Path, tmp_path: Path
) -> None:
    """Also batches of other lengths, and a validation in between. Random numbers would differ: without dropout."""
    states, losses = [], []
    for flag in ("false", "true"):
        cli = run_cli(
            [
                "fit", "--config", str(folder / f"{name}.yaml"), f"--run.dir={tmp_path / flag}",
                f"--compile={flag}", "--model.init_args.net.init_args.dropout=0", *QUICK,
            ]
        )  # fmt: skip
        losses.append(float(cli.trainer.callback_metrics["val/loss"]))
        states.append(
            torch.load(next(tmp_path.glob(f"{flag}/*/checkpoints/last.ckpt")), weights_only=True)[
                "state_dict"
            ]
        )
        assert (cli.model.net._compiled_call_impl is not None) == (flag == "true")
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        if key.endswith(
            "attention.k.bias"
        ):  # its gradient is zero but for rounding, of which Adam makes steps
            continue
        torch.testing.assert_close(states[1][key], value, rtol=1e-3, atol=1e-4)
