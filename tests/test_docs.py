"""The documentation: it builds without a warning, its commands and snippets are right, and what it names is there."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import inspect
import pydoc
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from mkdocs.commands.build import build
from mkdocs.config import load_config

import lit_lm
from lit_lm import cli, configs, data, models, plan_verb, tasks
from lit_lm.callbacks import Budget, KeepLast, Watchdog
from lit_lm.generation import Beam
from lit_lm.nn.heads import HeadConfig
from lit_lm.optim import OptimConfig
from lit_lm.pretrained import Pretrained
from lit_lm.runs import RunConfig
from tests import tiny
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
REFERENCED = {
    name
    for page in (DOCS / "reference").glob("*.md")
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
}
every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Titles and contents of a page's code blocks in one language."""
    return [(t, body) for lang, t, body in BLOCK.findall(page.read_text()) if lang == language]


def site(folder: Path, **settings: Any) -> None:
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True, **settings)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)  # a warning raises


# ---- the site --------------------------------------------------------------------------------


def test_links_anchors_and_the_list_of_pages_are_right(tmp_path: Path) -> None:
    """Without the reference's docstrings, which take most of the time."""
    site(tmp_path, plugins=[])
    reports = list(DOCS.rglob("*.html"))  # kept as they are
    assert len(list(tmp_path.rglob("*.html"))) == len(PAGES) + len(
        reports
    )  # 404.html for the README


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    site(tmp_path)
    reports = {
        path.relative_to(DOCS) for path in DOCS.rglob("*.html")
    }  # tests/compare is about these
    found = (p for p in tmp_path.rglob("*.html") if p.relative_to(tmp_path) not in reports)
    pages = {path: path.read_text() for path in found}
    ids = {i for text in pages.values() for i in re.findall(r'\bid="([\w.]+)"', text)}
    assert ids >= REFERENCED
    for path, text in pages.items():
        assert not re.search(r'<(script|img|link|iframe)\b[^>]*(src|href)="?(https?:)?//', text), (
            path
        )
        assert not re.search(r":(class|func|meth|mod|attr):", text), path


def test_every_public_name_is_in_the_reference() -> None:
    assert {f"{module}.{name}" for name, module in lit_lm._WHERE.items()} <= REFERENCED
    index = (DOCS / "reference" / "index.md").read_text()
    assert {f"{module}.{name}" for name, module in lit_lm._WHERE.items()} == set(
        re.findall(r"\]\[(\S+?)\]", index)
    )


def test_what_the_reference_names_is_there() -> None:
    for name in REFERENCED:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name


@every_page
def test_what_a_page_names_of_the_repository_is_there(page: Path) -> None:
    text = page.read_text()
    if page.name == "README.md":
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (ROOT / link).exists(), link
    for path in re.findall(
        r"`((?:lit_lm|configs|tests|benchmarks|notebooks|docs)/[\w/.-]*\w)/?`", text
    ):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`((?:experiment|model|trainer|compare|curve)/\w+)`", text):
        configs.find(name)


def test_papers_are_where_the_map_says() -> None:
    paper, rows = "", 0
    for line in (DOCS / "papers.md").read_text().splitlines():
        if not line.startswith("| ") or line.startswith("| section"):
            continue
        section, _, where = (cell.strip() for cell in line.strip("|").split(" | "))
        found = re.findall(r"([^\W\d]\w+)(?: et al\.| and [\w ]+)? (?:\d{4})", section)
        paper, rows = (found[0] if found else paper), rows + 1
        for place in where.split("; "):
            file, *names = re.findall(r"`([^`]+)`", place)
            source = (ROOT / file).read_text()
            assert paper in source, line
            for name in names:
                assert name in _defined(ast.parse(source)), line
    assert rows > 50


def _defined(tree: ast.AST, prefix: str = "") -> set[str]:
    nodes = [n for n in ast.iter_child_nodes(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    below = (_defined(n, f"{prefix}{n.name}.") for n in nodes)
    return {prefix + n.name for n in nodes}.union(*below)


# ---- commands --------------------------------------------------------------------------------


def commands(page: Path) -> Iterator[list[str]]:
    """What is typed behind ``lit-lm``, of all shell blocks."""
    for _, body in blocks(page, "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(
                re.sub(r"[();|]", r" \g<0> ", line) if "|" in line else line, comments=True
            )
            words = words[words.index("lit-lm") + 1 :] if "lit-lm" in words else []
            stop = next((i for i, word in enumerate(words) if word in ("|", ">", "(")), len(words))
            if words:
                yield words[:stop]


def parameters(*kinds: Any) -> set[str]:
    return {name for kind in kinds for name in inspect.signature(kind).parameters}


def classes(module: Any, base: type) -> list[type]:
    found = [getattr(module, name) for name in module.__all__]
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, base)]


SETTINGS = {
    "trainer": parameters(Trainer),
    "run": parameters(RunConfig),
    "budget": parameters(Budget),
    "pretrained": parameters(Pretrained),
    "keep_last": parameters(KeepLast),
    "watchdog": parameters(Watchdog),
    "data.init_args": parameters(*classes(data, data.Data)),
    "data.init_args.source.init_args": parameters(*classes(data, data.Source)),
    "data.init_args.tokenizer": parameters(data.TokenizerConfig),
    "model.init_args": parameters(*classes(tasks, tasks.Task)),
    "model.init_args.net.init_args": parameters(*classes(models, models.Architecture)),
    "model.init_args.net.init_args.net.init_args": parameters(
        *classes(models, models.CausalArchitecture)
    ),
    "model.init_args.optim": parameters(OptimConfig),
    "model.init_args.head": parameters(HeadConfig),
    "model.init_args.beam": parameters(Beam),
}
ALONE = {
    "config",
    "ckpt_path",
    "compile",
    "matmul",
    "seed_everything",
    "help",
    "model.help",
    "data.help",
}


def check_setting(flag: str) -> None:
    """A flag of ``lit-lm fit``: its last part is a setting of what the parts before it name."""
    key = flag.removeprefix("--").partition("=")[0]
    group, _, last = key.rpartition(".")
    if group == "trainer.profiler.init_args":
        group, last = "trainer", "profiler"
    assert key in ALONE or last in SETTINGS[group], flag


class _Parsed(Exception):
    pass


@every_page
def test_commands_can_be_typed(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verb exists, and so do its options and the configurations that are named."""
    written = {title for title, _ in blocks(page, "yaml")}
    for method in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, method)

        def parsed(self: Any, args: Any, parse: Any = parse) -> None:
            options = parse(self, [word for word in args if word != "..."])
            if self.prog in ("lit-lm compare", "lit-lm curve", "lit-lm describe"):
                assert options.config in written or configs.find(options.config)
            raise _Parsed

        monkeypatch.setattr(argparse.ArgumentParser, method, parsed)
    for verb, *rest in commands(page):
        if verb == "plan":
            options, flags = plan_verb.parser().parse_known_args(rest)
            assert options.config in written or configs.find(options.config)
            for flag, after in zip(flags, [*flags, ""][1:], strict=True):
                if flag == "--config":
                    assert configs.find(after)
                elif flag.startswith("--"):
                    check_setting(flag)
            continue
        if verb not in (*cli.TRAINING, "prepare"):
            with pytest.raises(_Parsed):
                cli.VERBS[verb](rest)
            continue
        own = {"--to", "--shards", "--shard", "--jobs", "--sample"} if verb == "prepare" else set()
        for word, after in zip(rest, [*rest[1:], ""], strict=True):
            if word.startswith("--") and word not in own:
                check_setting(word)
            if word == "--config" and after not in (
                *written,
                "...",
                "experiment/...",
                "that.yaml",
                "mine.yaml",
            ):
                assert configs.find(after)


@every_page
def test_flags_in_prose_exist(page: Path) -> None:
    groups = "|".join({group.partition(".")[0] for group in SETTINGS})
    prose = BLOCK.sub("", page.read_text())
    for flag in re.findall(rf"`(?:[^`\n]* )?(--(?:{groups})\.[\w.]+)", prose):
        check_setting(flag)


# ---- snippets --------------------------------------------------------------------------------


def check_classes(value: Any) -> None:
    """Whatever names a class of lit_lm gives it arguments that it takes."""
    if isinstance(value, list):
        for part in value:
            check_classes(part)
    if not isinstance(value, dict):
        return
    path = value.get("class_path", "")
    if path.startswith("lit_lm."):
        kind = pydoc.locate(path)
        assert kind is not None, path
        assert set(value.get("init_args", {})) <= parameters(kind), value
    for part in value.values():
        check_classes(part)


@every_page
def test_snippets_are_read(page: Path) -> None:
    for _, body in blocks(page, "yaml"):
        check_classes(yaml.safe_load(body))
    for _, body in blocks(page, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("lit_lm"):
                for name in node.names:
                    assert hasattr(importlib.import_module(str(node.module)), name.name), body


def test_the_architecture_of_the_how_to_trains_and_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = DOCS / "howto" / "own-architecture.md"
    ((title, code),) = blocks(page, "python")
    (tmp_path / title).write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "my_gru", None)  # to be taken out again
    del sys.modules["my_gru"]
    net = yaml.safe_load(blocks(page, "yaml")[0][1])["model"]["init_args"]["net"]
    assert configs.architecture("model/gpt_builtin", net).d_model == 192  # type: ignore[attr-defined]

    tiny.write(tmp_path)
    text = tiny.text_data(tmp_path)
    config = importlib.import_module("my_gru").GRUConfig(d_model=16)
    torch.manual_seed(0)
    task = lit_lm.CausalLM(config, text.spec, tiny.OPTIM)
    tiny.trainer(tmp_path, max_steps=2, limit_val_batches=1).fit(task, text)
    net = task.net.eval()
    ids = torch.randint(5, text.spec.vocab_size, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = net.head(net(ids))
        changed = torch.cat((ids[:, :4], ids[:, 4:].flip(1) % 3), dim=1)
        torch.testing.assert_close(net.head(net(changed))[:, :4], whole[:, :4])
        logits, state = net.start(ids[:, :5], torch.tensor([5, 3]), 7)
        torch.testing.assert_close(logits, torch.stack((whole[0, 4], whole[1, 2])))
        # Three beams go on from one, and then from each other.
        beams = torch.tensor([[5, 6, 7], [8, 9, 5]])
        _, state = net.step(beams, state, torch.zeros(2, 3, dtype=torch.long))
        state = net.keep(state, [1])
        logits, _ = net.step(torch.tensor([[6, 7]]), state, torch.tensor([[2, 0]]))
        for k, (parent, last) in enumerate(((5, 6), (8, 7))):
            path = torch.cat((ids[1:, :3], torch.tensor([[parent, last]])), dim=1)
            torch.testing.assert_close(logits[:, k], net.head(net(path))[:, -1])
    assert task.generate(["a b"], beam=Beam(3), max_new_tokens=4)
