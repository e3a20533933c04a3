"""``lit-lm fit|validate|test|predict``: Lightning's command line over tasks and data modules.

Imported only when one of these verbs runs: Lightning takes seconds to import.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from lit_lm import checkpoints, configs, memory
from lit_lm.callbacks import Budget, KeepLast, Watchdog
from lit_lm.data import Data
from lit_lm.errors import InputError
from lit_lm.runs import RunConfig
from lit_lm.tasks import Task


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run's folder, into checkpoints and into W&B."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Also hands the configuration to W&B."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update({"config": self.content()}, allow_val_change=True)

    def content(self) -> dict[str, Any]:
        """The configuration in plain types."""
        out: dict[str, Any] = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        return out

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Puts the configuration into checkpoints: they say how they came about."""
        checkpoint["config"] = self.content()


class LitCLI(LightningCLI):
    """Lightning's command line, with a run's identity, a budget, and one link from data to model."""

    def __init__(self, args: Sequence[str], *, run: bool = True) -> None:
        self.flags = list(args)
        self.resumed: dict[str, Any] = {}
        parser = {
            "parser_mode": "omegaconf",
            "default_config_files": [str(configs.shipped() / "trainer" / "default.yaml")],
        }
        super().__init__(
            Task,
            Data,
            args=find_configs(args),
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_kwargs={"parser_mode": "omegaconf", **dict.fromkeys(self.subcommands(), parser)}
            if run
            else parser,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={"use_distributed_sampler": False},
            run=run,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The suite's own settings, and what the network must know of the data."""
        parser.add_class_arguments(RunConfig, "run")
        parser.add_class_arguments(Budget, "budget")
        # A setting of its own: a list of callbacks in a later layer cannot lose it, one flag can change it.
        parser.add_lightning_class_args(Watchdog, "watchdog")
        parser.link_arguments(
            "data.spec",
            "model.init_args.spec",
            compute_fn=dataclasses.asdict,
            apply_on="instantiate",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; whatever else stands in ``sys.argv`` is not ours."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Finds the checkpoint that ``ckpt_path`` means, and sees to what it and the configuration disagree in.

        Training goes on with what the configuration says: all that differs from the checkpoint's is named, and what
        cannot be is refused. Any other verb takes the task's settings from the checkpoint, but for those that were given
        as flags.
        """
        verb = self.config.get("subcommand")
        config = self.config[verb] if verb else self.config
        path = config.get("ckpt_path") and self._find_checkpoint(str(config["ckpt_path"]), config)
        if not verb or not path:
            return
        config["ckpt_path"] = path
        self.resumed = checkpoints.load(path, lazily=True)
        check_same_architecture(path, self.resumed.get("hyper_parameters", {}), config["model"])
        if verb == "fit":
            self._name_changes()
            return
        hparams = dict(self.resumed.get("hyper_parameters", {}))
        hparams.pop("_instantiator", None)
        class_path = hparams.pop("_class_path")
        given = yaml.safe_load(self.parser.dump(self.config, skip_none=False, skip_validation=True))
        for flag in self.flags:
            if flag.startswith("--model.init_args."):
                keys = flag.removeprefix("--model.init_args.").partition("=")[0].split(".")
                _take_over(hparams, given[verb]["model"], [k for k in keys if k != "init_args"])
        settings = {verb: {"model": {"class_path": class_path, "dict_kwargs": hparams}}}
        self.config = self.parser.parse_object(settings, self.config)

    def _find_checkpoint(self, given: str, config: Any) -> str | None:
        if given not in ("best", "last", "last-intact"):
            return given
        folder = RunConfig(dir=config["run"]["dir"], name=config["run"]["name"]).checkpoints
        found = checkpoints.find(given, folder)
        if found is None and (self.config.get("subcommand") != "fit" or given == "best"):
            raise InputError(
                f"--ckpt_path={given}: there is none in {folder}. Train first, or give the file's path (run.name and "
                "run.dir say where runs are kept)"
            )
        if found is None:
            rank_zero_info(
                f"--ckpt_path={given}: there is no checkpoint in {folder} yet: a new start."
            )
            config["ckpt_path"] = None
        return None if found is None else str(found)

    def _name_changes(self) -> None:
        before = self.resumed.get("config")
        now = yaml.safe_load(self.parser.dump(self.config, skip_none=False, skip_validation=True))
        lines = changes(before, now[self.config["subcommand"]]) if before else []
        if lines:
            rank_zero_info("Changed since the checkpoint was written:\n  " + "\n  ".join(lines))

    def instantiate_classes(self) -> None:
        """Says which settings to change when memory runs out; so does `_run_subcommand`."""
        with memory.explained(
            self.subcommand or "fit", self.config.get(str(self.subcommand), self.config)
        ):
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        with memory.explained(subcommand, self.config[subcommand]):
            super()._run_subcommand(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Gives the trainer the run's folder and loggers, and the task its budget."""
        run: RunConfig = self._get(self.config_init, "run")
        budget: Budget = self._get(self.config_init, "budget")
        settings = self._get(self.config_init, "trainer")
        if settings["logger"] in (None, True):
            kwargs["logger"] = run.loggers(
                self.subcommand or "fit", self.resumed.get("resume", {}).get("logs")
            )
        if settings["default_root_dir"] is None:
            kwargs["default_root_dir"] = str(run.folder)
        for callback in (
            settings["callbacks"] or []
        ):  # also test and predict look for "last" and "best" there
            if isinstance(callback, ModelCheckpoint | KeepLast) and callback.dirpath is None:
                callback.dirpath = str(run.checkpoints.absolute())
        if (
            settings["enable_progress_bar"] is False
        ):  # the shipped list of callbacks has a bar in it
            kwargs["callbacks"] = [
                c for c in settings["callbacks"] or [] if not isinstance(c, ProgressBar)
            ]
        if budget.amount is not None:
            self.model.meter.budget = budget
            kwargs |= {"max_steps": -1, "max_epochs": -1, "max_time": None}
        trainer = super().instantiate_trainer(**kwargs)
        # Before the others start: what they do may take time, in which a process can die.
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks.sort(key=lambda callback: not isinstance(callback, Watchdog))
        return trainer


def run_cli(args: Sequence[str]) -> LitCLI:
    """Runs ``fit``, ``validate``, ``test`` or ``predict`` with command-line arguments.

    Args:
        args: the verb and its flags, as they would be typed after ``lit-lm``.

    Returns:
        The command line, with ``trainer``, ``model`` and ``datamodule``.
    """
    quieten()
    try:
        return LitCLI(args)
    except MisconfigurationException as error:
        raise InputError(str(error)) from error


def parse_data(args: Sequence[str]) -> Data:
    """The data module that an experiment's configuration describes; nothing else of it is made."""

    class DataOnly(LitCLI):
        def _set_seed(self) -> None: ...

        def instantiate_classes(self) -> None:
            parser = ArgumentParser(parser_mode="omegaconf")
            parser.add_subclass_arguments(Data, "data")
            config = parser.parse_object({"data": self.config["data"]})
            self.datamodule = parser.instantiate(config)["data"]

    # The model is not needed to prepare data, but a full experiment may be given.
    return DataOnly(args, run=False).datamodule  # type: ignore[no-any-return]


def find_configs(args: Sequence[str]) -> list[str]:
    """Replaces names after ``--config`` and ``-c`` by the files they mean."""
    out = list(args)
    for i, arg in enumerate(out):
        if arg in ("-c", "--config") and i + 1 < len(out):
            out[i + 1] = str(configs.find(out[i + 1]))
        elif arg.startswith("--config="):
            out[i] = f"--config={configs.find(arg.removeprefix('--config='))}"
    return out


def check_same_architecture(path: str, hparams: dict[str, Any], model: Any) -> None:
    """Raises InputError unless the checkpoint holds the task and architecture that ``model`` configures."""
    wanted = (model["class_path"], (model.get("init_args") or {}).get("net", {}))
    found = (hparams.get("_class_path"), hparams.get("net", {}))
    names = [
        (str(task).rpartition(".")[2], str(net.get("class_path")).rpartition(".")[2])
        for task, net in (wanted, found)
    ]
    if names[0] != names[1]:
        raise InputError(
            f"{path} holds {names[1][0]} of {names[1][1]}, but the configuration asks for {names[0][0]} of "
            f"{names[0][1]}: give the configuration it was trained with"
        )


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is not as it was, one line a setting; what only names and places a run is left out."""
    old, new = _flat(before), _flat(now)
    return [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(("run.", "ckpt_path", "config"))
    ]


def _take_over(settings: dict[str, Any], given: dict[str, Any], keys: list[str]) -> None:
    """Sets one nested setting as it stands in another tree; levels of ``init_args`` count in neither."""
    given = given.get("init_args", given)
    if len(keys) > 1 and isinstance(settings.get(keys[0]), dict):
        inner = settings[keys[0]] = dict(settings[keys[0]])
        if "init_args" in inner:
            inner = inner["init_args"] = dict(inner["init_args"])
        _take_over(inner, given[keys[0]], keys[1:])
    else:
        settings[keys[0]] = given[keys[0]]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    parts = [
        _flat(inner, f"{prefix}.{key}" if prefix else str(key)) for key, inner in value.items()
    ]
    return {key: inner for part in parts for key, inner in part.items()}


def load_task(path: str | Path) -> Task:
    """A trained task with its tokenizer, from a checkpoint alone, ready for inference.

    Raises:
        InputError: the file is no checkpoint of lit_lm, or has no tokenizer.
    """
    import importlib

    checkpoint = checkpoints.load(path)
    class_path = str(checkpoint.get("hyper_parameters", {}).get("_class_path", ""))
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{path} holds {class_path!r}, which cannot be imported here") from error
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise InputError(f"{path} holds {class_path!r}, which is not a task of lit_lm")
    task = kind.load_from_checkpoint(path, map_location="cpu")
    if task.tokenizer is None:
        raise InputError(
            f"{path} holds no tokenizer: it was trained without a data module of lit_lm"
        )
    return task.eval()


def quieten() -> None:
    """Silences library notices that a user can do nothing about."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if os.getcwd() not in sys.path:  # an architecture may live in a file beside the configuration
        sys.path.append(os.getcwd())
    for text in (
        ".*treespec, LeafSpec.*",
        ".*does not have many workers.*",
        ".*number of training batches.*",
    ):
        warnings.filterwarnings("ignore", text)
