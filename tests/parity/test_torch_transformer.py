"""The encoder-decoder against a real ``torch.nn.Transformer`` that is loaded from our export."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lit_lm import cli, interop
from lit_lm.data import Tokenizer, TokenizerConfig
from lit_lm.errors import InputError
from lit_lm.generation import Beam
from lit_lm.interop.torch_transformer import architecture, layout
from lit_lm.models import RNNConfig, TransformerConfig
from tests.parity.random_weights import POST, SPEC, TOKENIZER, lean_to_eos, make_task
from tests.reference_beam import reference_beam

pytestmark = pytest.mark.parity

V = SPEC.vocab_size
CONFIGS = {
    "post-norm": POST,
    "post-norm, final norms": dataclasses.replace(POST, final_norm=True, norm_eps=1e-3),
    "pre-norm": dataclasses.replace(
        POST, norm_first=True, final_norm=True, num_layers=3, attention_dropout=0.0
    ),
    "pre-norm, no final norms": dataclasses.replace(POST, norm_first=True, activation="gelu"),
    "untied, learned": dataclasses.replace(
        POST,
        num_decoder_layers=1,
        tie_embeddings=False,
        positions="learned",
        max_length=40,
        final_norm=None,
    ),
    "no positions": dataclasses.replace(POST, positions="none", num_heads=4, d_model=20),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


class Reference(nn.Module):
    """What the layout describes, by its own description, around ``nn.Transformer``."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        c = json.loads((folder / "config.json").read_text())
        self.c, self.width = c, c["d_model"]
        block = {
            "d_model": c["d_model"],
            "nhead": c["nhead"],
            "dim_feedforward": c["dim_feedforward"],
            "dropout": c["dropout"],
            "activation": c["activation"],
            "layer_norm_eps": c["layer_norm_eps"],
            "norm_first": c["norm_first"],
            "bias": c["bias"],
            "batch_first": True,
        }
        depths = {n: c[n] for n in ("num_encoder_layers", "num_decoder_layers")}
        stacks = {}
        if not c["final_norm"]:
            stacks["custom_encoder"] = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(**block), depths["num_encoder_layers"]
            )
            stacks["custom_decoder"] = nn.TransformerDecoder(
                nn.TransformerDecoderLayer(**block), depths["num_decoder_layers"]
            )
        self.transformer = nn.Transformer(**block, **depths, **stacks)
        self.src_embedding = nn.Embedding(c["vocab_size"], self.width)
        self.tgt_embedding = nn.Embedding(c["vocab_size"], self.width)
        self.generator = nn.Linear(self.width, c["vocab_size"], bias=False)
        if c["positions"] == "learned":
            self.src_positions = nn.Embedding(c["num_positions"], self.width)
            self.tgt_positions = nn.Embedding(c["num_positions"], self.width)
        tensors = load_file(folder / "model.safetensors")
        if c["tie_embeddings"]:
            self.tgt_embedding = self.src_embedding
            self.generator.weight = self.src_embedding.weight
            for name in ("tgt_embedding.weight", "generator.weight"):
                assert name not in tensors
                tensors[name] = tensors["src_embedding.weight"]
        self.load_state_dict(tensors)

    def embed(self, ids: Tensor, side: str) -> Tensor:
        x = getattr(self, f"{side}_embedding")(ids) * self.width**0.5
        if self.c["positions"] == "learned":
            return x + getattr(self, f"{side}_positions").weight[: ids.size(1)]
        if self.c["positions"] == "none":
            return x
        table = [
            [
                (math.sin if j % 2 == 0 else math.cos)(i / 10_000 ** (j // 2 * 2 / self.width))
                for j in range(self.width)
            ]
            for i in range(ids.size(1))
        ]
        return x + torch.tensor(table)

    def encode(self, src: Tensor, src_mask: Tensor) -> Tensor:
        return self.transformer.encoder(self.embed(src, "src"), src_key_padding_mask=~src_mask)

    def forward(self, src: Tensor, src_mask: Tensor, tgt: Tensor) -> Tensor:
        L = tgt.size(1)
        future = torch.ones(L, L, dtype=torch.bool).triu(1)
        return self.transformer(
            self.embed(src, "src"),
            self.embed(tgt, "tgt"),
            tgt_mask=future,
            src_key_padding_mask=~src_mask,
            memory_key_padding_mask=~src_mask,
        )


def batch(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Ragged sources that end in eos, their mask, and decoder inputs."""
    torch.manual_seed(seed)
    lengths = torch.tensor([7, 2, 5, 9])
    mask = torch.arange(9) < lengths[:, None]
    src = torch.randint(5, V, (4, 9)).masked_fill(~mask, SPEC.pad_id)
    src[torch.arange(4), lengths - 1] = SPEC.eos_id
    tgt = torch.randint(3, V, (4, 8))
    tgt[:, 0] = SPEC.bos_id
    return src, mask, tgt


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()


@every_config
@pytest.mark.parametrize("training", [False, True])
def test_hidden_states_and_logits(
    config: TransformerConfig, training: bool, tmp_path: Path
) -> None:
    task = make_task(config).train(training)
    assert interop.write(task, tmp_path) == "torch_transformer"
    reference = Reference(tmp_path).train(training)
    src, mask, tgt = batch()
    with torch.no_grad():
        encoded, wanted = task.net.encode(src, mask), reference.encode(src, mask)
        assert distance(encoded[mask], wanted[:, : mask.size(1)][mask]) <= 1e-5
        h, expected = task.net(src, mask, tgt), reference(src, mask, tgt)
        assert distance(h, expected) <= 1e-5
        logits = task.net.head(h)
        assert distance(logits, reference.generator(expected)) <= 1e-5
        # The comparison sees a change of any single tensor.
        for name, p in reference.named_parameters():
            kept = p.clone()
            p += 0.1 * torch.randn_like(p)
            changed = reference.generator(reference(src, mask, tgt))
            assert distance(logits, changed) > 1e-4, name
            p.copy_(kept)


@every_config
def test_gradients(config: TransformerConfig, tmp_path: Path) -> None:
    task = make_task(config).train()
    interop.write(task, tmp_path)
    reference = Reference(tmp_path).train()
    src, mask, tgt = batch()
    labels = tgt.roll(-1, 1)
    for net, head in ((task.net, task.net.head), (reference, reference.generator)):
        logits = head(net(src, mask, tgt))
        nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    ours = {n: p.grad for n, p in task.net.named_parameters(remove_duplicate=False)}
    theirs = {n: p.grad for n, p in reference.named_parameters()}
    found = {w.theirs: w.join(ours) for w in layout(architecture(task)[0])}
    assert found.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert distance(found[name], gradient) <= 1e-4, name


BEAMS = [Beam(2, 0.0), Beam(4, 1.0), Beam(3, 0.6, "gnmt"), Beam(5, 2.0)]


@pytest.mark.parametrize("name", ["post-norm", "pre-norm", "untied, learned"])
def test_beam_search_finds_what_a_plain_one_finds(name: str, tmp_path: Path) -> None:
    task = make_task(CONFIGS[name], seed=5)
    lean_to_eos(task)
    interop.write(task, tmp_path)
    reference = Reference(tmp_path).eval()
    src, mask, _ = (part[:2] for part in batch(seed=2))
    greedy = task.decode(src, mask, beam=Beam(1, 0.0))
    outputs = [task.decode(src, mask, beam=beam) for beam in BEAMS]
    ended = 0
    for row, length in enumerate(mask.sum(1).tolist()):
        log_probs, limit = next_token(reference, src[row : row + 1, :length]), length // 2 + 10
        ids, score = take_the_best(log_probs, limit)
        assert greedy[row][0].ids == ids
        assert greedy[row][0].score == pytest.approx(score, abs=1e-4)
        for beam, found in zip(BEAMS, outputs, strict=True):

            def divisor(n: int, beam: Beam = beam) -> float:
                base = n if beam.penalty == "plain" else (5 + n) / 6
                return base**beam.length_penalty

            wanted = reference_beam(
                log_probs, eos=SPEC.eos_id, size=beam.size, limit=limit, divisor=divisor
            )
            assert [(h.ids, h.finished) for h in found[row]] == [(w[0], w[2]) for w in wanted]
            for h, (_, score, _) in zip(found[row], wanted, strict=True):
                assert h.score == pytest.approx(score, abs=1e-4)
            ended += sum(h.finished for h in found[row])
    assert ended >= 10


def next_token(reference: Reference, src: Tensor) -> Callable[[tuple[int, ...]], list[float]]:
    """Log-probabilities of the token after any beginning, computed anew from the whole of it."""

    @functools.cache
    @torch.no_grad()
    def log_probs(prefix: tuple[int, ...]) -> list[float]:
        tgt = torch.tensor([[SPEC.bos_id, *prefix]])
        h = reference(src, torch.ones_like(src, dtype=torch.bool), tgt)
        return reference.generator(h[0, -1]).log_softmax(-1).tolist()

    return log_probs


def take_the_best(
    log_probs: Callable[[tuple[int, ...]], list[float]], limit: int
) -> tuple[list[int], float]:
    ids: tuple[int, ...] = ()
    total = 0.0
    while len(ids) < limit:
        options = log_probs(ids)
        best = options.index(max(options))
        total += options[best]
        if best == SPEC.eos_id:
            break
        ids = (*ids, best)
    return list(ids), total


@every_config
def test_export_import_export_changes_no_bit(config: TransformerConfig, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    task = make_task(config)
    interop.write(task, first)
    again = interop.read(first)
    assert not again.training
    assert again.tokenizer.state() == TOKENIZER.state()
    interop.write(again, second)
    for name in ("config.json", "model.safetensors", interop.OWN_TOKENIZER):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    for name, p in task.net.state_dict().items():
        assert torch.equal(p, again.net.state_dict()[name]), name
    src, mask, _ = batch()
    again.length_factor = task.length_factor  # of decoding, not in the layout
    assert task.decode(src, mask) == again.decode(src, mask, beam=task.beam)


def test_the_command_line_goes_both_ways(tmp_path: Path) -> None:
    task = make_task(CONFIGS["pre-norm"])
    first, file, second = (str(tmp_path / name) for name in ("first", "net.ckpt", "second"))
    interop.write(task, first)
    assert cli.main(["import", first, file]) == 0
    assert cli.main(["export", file, second]) == 0
    for name in ("config.json", "model.safetensors", interop.OWN_TOKENIZER):
        assert (Path(first) / name).read_bytes() == (Path(second) / name).read_bytes()


def test_without_biases_norms_have_none_either(tmp_path: Path) -> None:
    task = make_task(dataclasses.replace(POST, bias=False))
    for name, p in task.net.named_parameters():
        if name.endswith(".bias"):
            p.data.zero_()
    interop.write(task, tmp_path)
    reference = Reference(tmp_path).eval()
    assert not [name for name, _ in reference.named_parameters() if name.endswith("bias")]
    src, mask, tgt = batch()
    again = interop.read(tmp_path)
    with torch.no_grad():
        assert distance(task.net(src, mask, tgt), reference(src, mask, tgt)) <= 1e-5
        assert torch.equal(task.net(src, mask, tgt), again.net(src, mask, tgt))


def test_tied_weights_may_be_kept_three_times_if_equal(tmp_path: Path) -> None:
    task = make_task(POST)
    interop.write(task, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["generator.weight"] = tensors["src_embedding.weight"].clone()
    save_file(tensors, file)
    again = interop.read(tmp_path)
    assert again.net.head.weight is again.net.src_embedding.weight
    tensors["generator.weight"][0, 0] += 1
    save_file(tensors, file)
    with pytest.raises(InputError, match=r"copies of: generator\.weight"):
        interop.read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nhead": 3}, "nhead is 3, which does not divide d_model 16"),
        ({"nhead": 0}, "nhead is 0"),
        ({"nhead": "2"}, "nhead is '2'"),
        ({"d_model": 32}, "of another shape"),
        ({"num_encoder_layers": 3}, "missing: transformer.encoder.layers.2"),
        ({"num_decoder_layers": 2}, "unexpected: transformer.decoder.layers.2"),
        ({"final_norm": True}, "missing: transformer.decoder.norm.bias"),
        ({"tie_embeddings": False}, "missing: generator.weight, tgt_embedding.weight"),
        ({"activation": "silu"}, "activation is 'silu'"),
        ({"positions": "rotary"}, "positions is 'rotary'"),
        ({"bias": False}, "unexpected: transformer.decoder.layers.0.linear1.bias"),
        ({"norm_first": 1}, "norm_first is 1"),
        ({"dropout": 1.5}, "dropout is 1.5"),
        ({"positions": "learned"}, "num_positions is missing"),
        ({"bos_id": 3}, "bos_id is 3, but the tokenizer's is 1"),
        ({"vocab_size": V + 1}, f"vocab_size is {V + 1}, but the tokenizer's is {V}"),
        ({"dim_feedforward": None}, "dim_feedforward is missing"),
        ({"layer_norm_eps": -1}, r"layer_norm_eps is -1\.0"),
        ({"max_length": -1}, "max_length is -1"),
        ({"model_type": "marian"}, "model_type is 'marian'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    interop.write(make_task(POST), tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text()) | changes
    config = {name: value for name, value in config.items() if value is not None}
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        interop.read(tmp_path)


def test_damaged_files_are_refused_and_the_command_line_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interop.write(make_task(POST), tmp_path)
    file, checkpoint = tmp_path / "model.safetensors", tmp_path / "net.ckpt"
    whole = file.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"not a tensor" * 9):
        file.write_bytes(damage)
        assert cli.main(["import", str(tmp_path), str(checkpoint)]) == 2
        assert "cannot be read as safetensors" in capsys.readouterr().err
        assert not checkpoint.exists()
    file.write_bytes(whole)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read as JSON"):
        interop.read(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dataclasses.replace(POST, positions="rotary"), "positions='rotary'"),
        (dataclasses.replace(POST, activation="gelu_tanh"), "activation='gelu_tanh'"),
        (dataclasses.replace(POST, bias=False), "bias=False"),
        (RNNConfig(d_model=8, d_hidden=8), "RNN"),
    ],
)
def test_what_the_layout_cannot_express_is_refused(
    config: Any, message: str, tmp_path: Path
) -> None:
    task = make_task(config)
    with pytest.raises(InputError, match=message):
        interop.write(task, tmp_path / "out", "torch_transformer")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["torch_transformer", "ctranslate2"])
def test_another_tokenizer_than_the_networks_is_refused(name: str, tmp_path: Path) -> None:
    task = make_task(POST)
    task.tokenizer = Tokenizer.train(TokenizerConfig("byte"), [])
    with pytest.raises(InputError, match=f"vocab_size of the network is {V}, .* is 261"):
        interop.write(task, tmp_path / "out", name)
    assert not (tmp_path / "out").exists()
