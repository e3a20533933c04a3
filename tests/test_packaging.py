"""What a user installs: dependencies in step, and a wheel that works outside the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import lit_lm
from tests.conftest import ROOT


def test_environment_yml_lists_what_pyproject_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    wanted = {r for r in project["dependencies"] + extras if not r.startswith("lit_lm[")}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = environment["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert set(pip) == wanted
    assert f"python{project['requires-python']}" in conda
    assert environment["name"] == project["name"]


def test_public_names_exist_and_are_documented() -> None:
    for name in lit_lm.__all__:
        assert getattr(lit_lm, name) is not None
        if name != "__version__":
            assert getattr(lit_lm, name).__doc__, name
    with pytest.raises(AttributeError, match="nonsense"):
        lit_lm.nonsense  # noqa: B018


def test_every_public_thing_has_a_docstring() -> None:
    import ast

    missing = []
    for path in (ROOT / "lit_lm").rglob("*.py"):
        tree = ast.parse(path.read_text())
        if path.name != "__main__.py" and not ast.get_docstring(tree):
            missing.append(str(path))
        for node in tree.body:
            public = isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith(
                "_"
            )
            if public and not ast.get_docstring(node):
                missing.append(f"{path}:{node.name}")
    assert not missing


def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the README, at a toy's size."""
    from tests import tiny

    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code
    tiny.write(tmp_path)
    for old, new in (
        ("train.txt", "text.txt"),
        ("val.txt", "text.txt"),
        ("max_steps=1000", "max_steps=2, logger=False, accelerator='cpu'"),
        ("vocab_size=8000", "vocab_size=300"),
        ("384", "12"),
    ):
        assert old in code[1]
        code_text = code[1] if old == "train.txt" else code_text  # noqa: F821
        code_text = code_text.replace(old, new)
    monkeypatch.chdir(tmp_path)
    exec(compile(code_text, "README.md", "exec"), {})


def test_the_wheel_carries_the_configurations(tmp_path: Path) -> None:
    """Built, unpacked outside the repository, and used: configurations are found by name."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "-q",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    shipped = {
        f"lit_lm/configs/{p.relative_to(ROOT / 'configs')}"
        for p in (ROOT / "configs").rglob("*.yaml")
    }
    assert shipped <= names
    assert "lit_lm/compare/page.html.j2" in names
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    code = "import lit_lm, lit_lm.configs as c; print(lit_lm.__file__); print(c.find('experiment/builtin_gpt'))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(line.startswith(str(tmp_path / "site")) for line in out.stdout.splitlines())
    flags = [
        "--config=experiment/builtin_gpt", "--trainer.max_steps=1", "--trainer.limit_val_batches=1",
        "--trainer.accelerator=cpu", "--run.wandb=disabled", "--data.init_args.source.init_args.train=50",
        "--data.init_args.source.init_args.val=5",
    ]  # fmt: skip
    command = [sys.executable, "-m", "lit_lm", "fit", *flags]
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "runs" / "builtin_gpt" / "checkpoints" / "last.ckpt").is_file()
