"""``lit-lm fit|validate|test|predict``: Lightning's command line over tasks and data modules.

Imported only when one of these verbs runs: Lightning takes seconds to import.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from omegaconf.errors import OmegaConfBaseException

from lit_lm import configs
from lit_lm.callbacks import Budget
from lit_lm.data import Data
from lit_lm.errors import InputError
from lit_lm.parsing import Parser, check_settings
from lit_lm.runs import RunConfig
from lit_lm.tasks import Task

_KNOWN_CHECKPOINTS = ("last", "best", "hpc")


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run's folder and into W&B."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Also hands the configuration to W&B."""
        text = self.parser.dump(self.config, skip_none=False)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(
                    {"config": yaml.safe_load(text)}, allow_val_change=True
                )


class LitCLI(LightningCLI):
    """Lightning's command line, with a run's identity, a budget, and one link from data to model."""

    def __init__(self, args: Sequence[str], *, run: bool = True) -> None:
        parser = {
            "parser_mode": "omegaconf",
            "prog": None if run else "lit-lm prepare",
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
            parser_class=Parser,
            parser_kwargs={
                "parser_mode": "omegaconf",
                "prog": "lit-lm",
                **dict.fromkeys(self.subcommands(), parser),
            }
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
        parser.link_arguments(
            "data.spec",
            "model.init_args.spec",
            compute_fn=dataclasses.asdict,
            apply_on="instantiate",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; whatever else stands in ``sys.argv`` is not ours."""
        try:
            self.config = parser.parse_args(args)
        except (OmegaConfBaseException, UnicodeDecodeError) as error:  # in a file that a file names
            raise InputError(
                f"a configuration cannot be read: {str(error).splitlines()[0]}"
            ) from error
        verb = self.config.get("subcommand")
        check_settings(self.config[verb] if verb else self.config)

    def _set_seed(self) -> None:
        """Refuses seeds that numpy does not take."""
        try:
            super()._set_seed()
        except ValueError as error:
            raise InputError(f"seed_everything: {error}") from error

    def _parse_ckpt_path(self) -> None:
        """Refuses a checkpoint of another task or architecture before Lightning mixes the two."""
        config = (
            self.config[self.config.subcommand] if self.config.get("subcommand") else self.config
        )
        path = config.get("ckpt_path")
        if path is not None and path not in _KNOWN_CHECKPOINTS and "://" not in path:
            check_same_architecture(path, config["model"])
        super()._parse_ckpt_path()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Gives the trainer the run's folder and loggers, and the task its budget."""
        run: RunConfig = self._get(self.config_init, "run")
        budget: Budget = self._get(self.config_init, "budget")
        settings = self._get(self.config_init, "trainer")
        if settings["logger"] in (None, True):
            kwargs["logger"] = run.loggers(self.subcommand or "fit")
        if settings["default_root_dir"] is None:
            kwargs["default_root_dir"] = str(run.folder)
        for callback in (
            settings["callbacks"] or []
        ):  # also test and predict look for "last" and "best" there
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str((run.folder / "checkpoints").absolute())
        if (
            settings["enable_progress_bar"] is False
        ):  # the shipped list of callbacks has a bar in it
            kwargs["callbacks"] = [
                c for c in settings["callbacks"] or [] if not isinstance(c, ProgressBar)
            ]
        if budget.amount is not None:
            self.model.meter.budget = budget
            kwargs |= {"max_steps": -1, "max_epochs": -1, "max_time": None}
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise InputError(f"trainer: {error}") from error

    def _run_subcommand(self, subcommand: str) -> None:
        """Lightning checks some of the trainer's settings as it goes: they are the user's, too."""
        try:
            super()._run_subcommand(subcommand)
        except MisconfigurationException as error:
            raise InputError(f"trainer: {error}") from error
        except ValueError as error:
            if not re.search("val_check_interval|ckpt_path", str(error)):
                raise
            raise InputError(f"trainer: {str(error).strip()}") from error


def run_cli(args: Sequence[str]) -> LitCLI:
    """Runs ``fit``, ``validate``, ``test`` or ``predict`` with command-line arguments.

    Args:
        args: the verb and its flags, as they would be typed after ``lit-lm``.

    Returns:
        The command line, with ``trainer``, ``model`` and ``datamodule``.
    """
    quieten()
    return LitCLI(args)


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
            out[i + 1] = _checked(out[i + 1])
        elif arg.startswith("--config="):
            out[i] = f"--config={_checked(arg.removeprefix('--config='))}"
    return out


def _checked(name: str) -> str:
    path = configs.find(name)
    configs.check(path)
    return str(path)


def check_same_architecture(path: str, model: Any) -> None:
    """Raises InputError unless the checkpoint holds the task and architecture that ``model`` configures."""
    hparams = load_checkpoint(path).get("hyper_parameters", {})
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


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content: tensors and plain types only.

    Raises:
        InputError: there is no such file, or it is not such a checkpoint.
    """
    if not Path(path).is_file():
        raise InputError(
            f"no checkpoint {str(path)!r}: training writes them to <run.dir>/<run.name>/checkpoints"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"{path} cannot be read as a checkpoint: it is damaged, or holds more than tensors ({reason})"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path} is not a checkpoint of lit_lm: it has no 'state_dict'")
    return checkpoint


def load_task(path: str | Path) -> Task:
    """A trained task with its tokenizer, from a checkpoint alone, ready for inference.

    Raises:
        InputError: the file is no checkpoint of lit_lm, or has no tokenizer.
    """
    import importlib

    checkpoint = load_checkpoint(path)
    class_path = str(checkpoint.get("hyper_parameters", {}).get("_class_path", ""))
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{path} holds {class_path!r}, which cannot be imported here") from error
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise InputError(f"{path} holds {class_path!r}, which is not a task of lit_lm")
    task = kind.load_from_checkpoint(path, map_location="cpu", weights_only=True)
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
