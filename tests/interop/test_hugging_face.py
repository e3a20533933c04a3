"""What cannot be read or written in Hugging Face's layouts is refused in one message, and changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lit_lm import interop
from lit_lm.cli import main
from lit_lm.data import Tokenizer, TokenizerConfig
from lit_lm.errors import InputError
from lit_lm.models import BERTConfig, GPTConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks import CausalLM, MaskedLM, Task
from lit_lm.training import load_task

BERT = BERTConfig(num_layers=2, num_heads=2, d_model=8, d_ff=12)
GPT = GPTConfig(num_layers=2, num_heads=2, d_model=8)
KINDS = {"bert": BERT, "gpt2": GPT}


def task(net: Any, *, next_sentence: bool = True, kind: Any = "wordpiece") -> Task:
    t = Tokenizer.train(TokenizerConfig(kind, 40), ["ab abc bad cab", "dad bed"])
    ids = (t.pad_id, t.bos_id, t.eos_id, t.unk_id, t.mask_id)
    pairs = next_sentence and isinstance(net, BERTConfig)
    spec = DataSpec(t.vocab_size + 3, 16, 0, *ids, next_sentence=pairs)
    made: Task = MaskedLM(net, spec) if isinstance(net, BERTConfig) else CausalLM(net, spec)
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.normal_()
    made.tokenizer = t
    return made


def change(folder: Path, **settings: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def equal(one: Task, other: Task) -> bool:
    a, b = one.net.state_dict(), other.net.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize(
    ("layout", "name", "value", "says"),
    [
        ("bert", "hidden_act", "silu", "gelu, gelu_new"),
        ("bert", "hidden_act", "relu", "with a masked-LM head only 'gelu'"),
        ("bert", "position_embedding_type", "relative_key", "only 'absolute'"),
        ("bert", "type_vocab_size", 3, "only 2"),
        ("bert", "is_decoder", True, "only False"),
        ("bert", "tie_word_embeddings", False, "only True"),
        ("bert", "hidden_size", "8", "int is wanted"),
        ("bert", "num_hidden_layers", 0, "at least 1"),
        ("bert", "num_attention_heads", 3, "does not divide hidden_size 8"),
        ("bert", "hidden_dropout_prob", 1.5, "0 to below 1"),
        ("bert", "layer_norm_eps", -1.0, "from 0"),
        ("bert", "initializer_range", -0.5, "from 0"),
        ("bert", "hidden_act", ["gelu"], "str is wanted"),
        ("bert", "attention_probs_dropout_prob", 0.3, "one dropout"),
        ("bert", "pad_token_id", 2, "the tokenizer fills up with 0"),
        ("bert", "vocab_size", 7, "give the tokenizer that belongs to the weights"),
        ("gpt2", "activation_function", "silu", "gelu, gelu_new"),
        ("gpt2", "scale_attn_weights", False, "only True"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True, "only False"),
        ("gpt2", "add_cross_attention", True, "only False"),
        ("gpt2", "n_inner", -4, "at least 1"),
        ("gpt2", "n_layer", None, "int is wanted"),
        ("gpt2", "n_head", 3, "does not divide n_embd 8"),
        ("gpt2", "attn_pdrop", 0.3, "one dropout"),
        ("gpt2", "tie_word_embeddings", "yes", "bool is wanted"),
        ("gpt2", "vocab_size", 7, "give the tokenizer that belongs to the weights"),
    ],
)
def test_settings_that_cannot_be_are_named(
    layout: str, name: str, value: Any, says: str, tmp_path: Path
) -> None:
    interop.write(task(KINDS[layout]), tmp_path)
    interop.read(tmp_path)  # as it was written, it can be read
    change(tmp_path, **{name: value})
    with pytest.raises(InputError) as error:
        interop.read(tmp_path)
    message = str(error.value)
    assert f"{tmp_path / 'config.json'}: " in message
    assert f"{name} is {value!r}" in message
    assert says in message


@pytest.mark.parametrize("layout", KINDS)
def test_weights_that_do_not_fit_are_all_listed(layout: str, tmp_path: Path, capsys) -> None:
    interop.write(task(KINDS[layout]), tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    names = sorted(tensors)
    broken = dict(tensors)
    del broken[names[1]]
    broken["a.stranger"] = torch.zeros(2)
    broken[names[3]] = torch.zeros(5, 7)
    save_file(broken, file)
    out = tmp_path / "out.ckpt"
    assert main(["import", str(tmp_path), str(out)]) == 2
    message = capsys.readouterr().err
    for part in (
        str(file),
        f"1 missing: {names[1]}",
        "1 unexpected: a.stranger",
        f"{names[3]} [5, 7], wanted",
    ):
        assert part in message
    assert not out.exists()


@pytest.mark.parametrize("layout", KINDS)
def test_foreign_and_damaged_files_are_refused(layout: str, tmp_path: Path) -> None:
    other = next(kind for kind in KINDS if kind != layout)
    for name in KINDS:
        interop.write(task(KINDS[name]), tmp_path / name)
    foreign = (tmp_path / other / "model.safetensors").read_bytes()
    file = tmp_path / layout / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(foreign)
    with pytest.raises(InputError, match=r"missing: .*\n.*unexpected: "):
        interop.read(tmp_path / layout)
    for cut in (whole[:-9], whole[:5], b"", b"\xff" * 200):
        file.write_bytes(cut)
        with pytest.raises(InputError, match=r"model\.safetensors cannot be read as safetensors"):
            interop.read(tmp_path / layout)
    file.unlink()
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        interop.read(tmp_path / layout)
    file.write_bytes(whole)
    (tmp_path / layout / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read as JSON"):
        interop.read(tmp_path / layout)


@pytest.mark.parametrize(
    ("net", "names"),
    [
        (replace(BERT, norm_first=True), ("norm_first", "True")),
        (replace(BERT, positions="rotary"), ("positions", "'rotary'")),
        (replace(BERT, positions="sinusoidal"), ("positions", "'sinusoidal'")),
        (replace(BERT, activation="relu"), ("activation", "'relu'")),
        (replace(GPT, norm_first=False), ("norm_first", "False")),
        (replace(GPT, positions="none"), ("positions", "'none'")),
        (replace(GPT, bias=False), ("bias", "False")),
    ],
)
def test_what_a_layout_cannot_say_is_not_written(
    net: Any, names: tuple[str, str], tmp_path: Path
) -> None:
    made = task(net)
    with pytest.raises(
        InputError, match=f"this network {names[0]}={names[1]}: it cannot be written"
    ):
        interop.write(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_of_another_network_or_without_a_tokenizer(tmp_path: Path) -> None:
    for layout, other in (("bert", GPT), ("gpt2", BERT)):
        with pytest.raises(InputError, match="cannot be written in this layout"):
            interop.write(task(other), tmp_path / "out", layout)
        bare = task(KINDS[layout])
        bare.tokenizer = None
        with pytest.raises(InputError, match="no tokenizer"):
            interop.write(bare, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_head_that_is_fresh_does_not_bind_the_activation(tmp_path: Path) -> None:
    made = task(replace(BERT, activation="relu"))
    made.fresh = tuple(
        n for n, _ in made.net.named_parameters() if n.startswith(("head", "next_head"))
    )
    interop.write(made, tmp_path)
    again = interop.read(tmp_path)
    assert set(again.fresh) == set(made.fresh)
    a, b = made.net.state_dict(), again.net.state_dict()
    assert all(torch.equal(a[n], b[n]) for n in a if n not in made.fresh)


def test_a_folder_with_files_in_it_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    for taken in (tmp_path, tmp_path / "model.safetensors.index.json"):
        with pytest.raises(InputError, match="new or empty"):
            interop.write(task(BERT), taken)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors.index.json"]


def test_nothing_is_generated_with_a_fresh_head() -> None:
    made = task(replace(GPT, tie_embeddings=False))
    made.fresh = ("head.weight",)
    with pytest.raises(InputError, match=r"none for head\.weight"):
        made.generate(["ab"])  # type: ignore[operator]


def test_ids_behind_the_tokenizers_are_never_drawn() -> None:
    """`task` makes three more of them than the tokenizer has; here they would always win."""
    for net in (BERT, replace(GPT, tie_embeddings=False)):
        made: Any = task(net)
        size = made.tokenizer.vocab_size
        head = made.net.head
        with torch.no_grad():
            if isinstance(net, BERTConfig):
                head.output.bias[size:] = 1e4
                (filled,) = made.eval().fill_mask(["ab <mask> bad"])
                assert all(fill.token for fill in filled.fills[0])
            else:
                made.net.stack.norm.bias.fill_(1.0)
                head.weight[size:] = 1e4
                (found,) = made.generate(["ab"], max_new_tokens=4)
                assert found.prompt == "ab"


@pytest.mark.parametrize("kind", ["byte", "word"])
@pytest.mark.parametrize("layout", KINDS)
def test_the_command_line_there_and_back_is_equal_bit_for_bit(
    layout: str, kind: str, tmp_path: Path, capsys
) -> None:
    first = task(replace(KINDS[layout], init_std=0.5), next_sentence=False, kind=kind)
    interop.write(first, tmp_path / "a")
    assert main(["import", str(tmp_path / "a"), str(tmp_path / "a.ckpt")]) == 0
    assert main(["export", str(tmp_path / "a.ckpt"), str(tmp_path / "b")]) == 0
    assert f"in the layout {layout}" in capsys.readouterr().out
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "b").iterdir())
    assert ("tokenizer_config.json" in files) == (kind == "word")
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    again = load_task(tmp_path / "a.ckpt")
    assert equal(first, again)
    assert again.hparams["net"]["init_args"]["init_std"] == 0.5
