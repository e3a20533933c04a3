"""Decoding by CTranslate2, from our export, against our own.

Both divide a log-probability by length^penalty, eos counted; the "gnmt" penalty has no counterpart there.
CTranslate2 stops once ``size * patience`` outputs have ended, ours when none that goes on could still be
among the best: with enough patience both find the same. Ours puts outputs that were cut by the length
limit last, so only sources whose best output ended are compared.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import ctranslate2
import pytest
import torch

from lit_lm import Translation, cli, interop
from lit_lm.data import Tokenizer, TokenizerConfig
from lit_lm.errors import InputError
from lit_lm.generation import Beam
from lit_lm.interop.ctranslate2 import vocabulary
from lit_lm.models import RNNConfig, TransformerConfig
from tests.parity.random_weights import POST as DEEP
from tests.parity.random_weights import SPEC, TOKENIZER, lean_to_eos, make_task

pytestmark = pytest.mark.parity

POST = dataclasses.replace(DEEP, num_decoder_layers=1)
CONFIGS = {
    "post-norm": POST,
    "post-norm, final norms": dataclasses.replace(POST, final_norm=True, norm_eps=1e-3),
    "pre-norm, gelu": dataclasses.replace(
        POST, norm_first=True, final_norm=True, activation="gelu", num_decoder_layers=3
    ),
    "pre-norm, no final norms, gelu_tanh": dataclasses.replace(
        POST, norm_first=True, activation="gelu_tanh"
    ),
    "untied, learned, no biases": dataclasses.replace(
        POST, tie_embeddings=False, positions="learned", max_length=64, bias=False
    ),
    "no positions": dataclasses.replace(POST, positions="none"),
}
SOURCES = ["a b c", "h", "d d e a", "c g f b a h", "e", "b f a", "g h c c", "f e d c b a"]


def load(folder: Path) -> ctranslate2.Translator:
    return ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=1)


def theirs(folder: Path, beam: Beam) -> list[list[tuple[list[str], float]]]:
    """Their outputs with scores, up to ``beam.size`` for each source; eos stands where one has ended."""
    names = vocabulary(TOKENIZER)
    results = load(folder).translate_batch(
        [[names[i] for i in TOKENIZER.encode(text)] for text in SOURCES],
        beam_size=beam.size,
        num_hypotheses=beam.size,
        patience=50.0 if beam.size > 1 else 1.0,
        length_penalty=beam.length_penalty,
        min_decoding_length=0,  # its own default forbids empty outputs
        max_decoding_length=10,
        return_scores=True,
        return_end_token=True,
    )
    return [list(zip(r.hypotheses, r.scores, strict=True)) for r in results]


every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def ours(task: Translation, beam: Beam) -> list[list[tuple[list[str], float]]]:
    """Ours in the same form."""
    names = vocabulary(TOKENIZER)
    task.length_factor = 0.0  # which leaves 10 tokens
    return [
        [([names[i] for i in [*h.ids, *[SPEC.eos_id] * h.finished]], h.score) for h in found]
        for found in task.translate(SOURCES, beam=beam)
    ]


@every_config
def test_log_probabilities_of_given_targets(config: TransformerConfig, tmp_path: Path) -> None:
    task = make_task(config)
    interop.write(task, tmp_path, "ctranslate2")
    names, translator = vocabulary(TOKENIZER), load(tmp_path)
    sources = [TOKENIZER.encode(text) for text in SOURCES]
    targets = sources[::-1]
    found = translator.score_batch(
        *([[names[i] for i in row] for row in rows] for rows in (sources, targets))
    )
    for source, target, score in zip(sources, targets, found, strict=True):
        src, labels = torch.tensor([[*source, SPEC.eos_id]]), torch.tensor([*target, SPEC.eos_id])
        tgt = torch.tensor([[SPEC.bos_id, *target]])
        with torch.no_grad():
            h = task.net(src, torch.ones_like(src, dtype=torch.bool), tgt)
            expected = task.net.head(h[0]).log_softmax(-1).gather(1, labels[:, None]).squeeze(1)
        torch.testing.assert_close(torch.tensor(score.log_probs), expected, rtol=1e-4, atol=1e-4)


@every_config
@pytest.mark.parametrize("beam", [Beam(1, 0.0), Beam(2, 0.0), Beam(4, 0.6), Beam(4, 1.0)])
def test_outputs_are_ours(config: TransformerConfig, beam: Beam, tmp_path: Path) -> None:
    task = make_task(config, seed=4)
    task.net.head.weight.data *= 0.25  # so that many outputs are near the best
    lean_to_eos(task, 1.5)
    assert interop.write(task, tmp_path, "ctranslate2") == "ctranslate2"
    eos, compared = vocabulary(TOKENIZER)[SPEC.eos_id], 0
    for found, wanted in zip(theirs(tmp_path, beam), ours(task, beam), strict=True):
        if beam.size > 1:
            found = [one for one in found if one[0][-1:] == [eos]]
            wanted = [one for one in wanted if one[0][-1:] == [eos]][: len(found)]
        assert [tokens for tokens, _ in found] == [tokens for tokens, _ in wanted]
        for (_, score), (_, expected) in zip(found, wanted, strict=True):
            assert score == pytest.approx(expected, abs=1e-4)
        compared += len(found)
    assert compared >= 6


def test_the_command_line_writes_a_model_directory(tmp_path: Path) -> None:
    task = make_task(POST)
    interop.save_checkpoint(task, tmp_path / "net.ckpt")
    folder = tmp_path / "out"
    args = ["export", str(tmp_path / "net.ckpt"), str(folder), "--layout", "ctranslate2"]
    assert cli.main(args) == 0
    assert cli.main(args) == 2  # the folder is not empty any more
    greedy = Beam(1, 0.0)
    assert [one[0][0] for one in theirs(folder, greedy)] == [
        one[0][0] for one in ours(task, greedy)
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dataclasses.replace(POST, positions="rotary"), "positions='rotary'"),
        (RNNConfig(d_model=8, d_hidden=8), "RNN"),
    ],
)
def test_what_it_cannot_express_is_refused(config: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        interop.write(make_task(config), tmp_path / "out", "ctranslate2")
    assert not (tmp_path / "out").exists()


def test_without_the_library_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.setitem(sys.modules, "ctranslate2.specs", None)
    with pytest.raises(InputError, match=r"pip install lit_lm\[serve\]"):
        interop.write(make_task(POST), tmp_path / "out", "ctranslate2")
    assert not (tmp_path / "out").exists()


def test_every_id_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("byte", "char", "word"):
        tokenizer = Tokenizer.train(TokenizerConfig(kind), ["a b\nc '\\"])
        assert len({*vocabulary(tokenizer)}) == tokenizer.vocab_size
    monkeypatch.setattr(tokenizer, "token", lambda i: "" if i in (6, 7) else f"t{i}")
    assert vocabulary(tokenizer)[5:8] == ["t5", "<id 6>", "<id 7>"]
    monkeypatch.setattr(tokenizer, "token", lambda i: "x" if i in (6, 7) else f"t{i}")
    with pytest.raises(InputError, match=r"ids 6 and 7.*'x'"):
        vocabulary(tokenizer)
