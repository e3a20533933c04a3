"""``lit-lm fit|validate|test|predict``: Lightning's command line over tasks and data modules.

Imported only when one of these verbs runs: Lightning takes seconds to import.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from omegaconf.errors import OmegaConfBaseException

from lit_lm import checkpoints, configs, matmul, memory, pretrained, resuming
from lit_lm.callbacks import EMA, Budget, KeepLast, Watchdog
from lit_lm.data import Data, LabelledData
from lit_lm.errors import InputError
from lit_lm.net_layers import with_defaults
from lit_lm.parsing import Parser, check_settings
from lit_lm.pretrained import Pretrained, WarmStart
from lit_lm.runs import RunConfig
from lit_lm.startup import import_from_here, located
from lit_lm.tasks import Task, Translation


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run's folder, into checkpoints and into W&B."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Also hands the configuration to W&B."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update({"config": self.content}, allow_val_change=True)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The configuration in plain types; it does not change on the way."""
        out: dict[str, Any] = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        return out

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Puts the configuration into checkpoints: they say how they came about."""
        checkpoint["config"] = self.content


class LitCLI(LightningCLI):
    """Lightning's command line, with a run's identity, a budget, and one link from data to model."""

    parser_type: ClassVar[type[Parser]] = Parser

    def __init__(self, args: Sequence[str], *, run: bool = True, verb: str = "fit") -> None:
        self.flags = list(args)
        self.resumed: dict[str, Any] = {}
        parser = {
            "parser_mode": "omegaconf",
            "prog": None if run else f"lit-lm {verb}",
            "default_config_files": [str(configs.shipped() / "trainer" / "default.yaml")],
        }
        super().__init__(
            Task,
            Data,
            args=with_defaults(find_configs(args)),
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_class=self.parser_type,
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

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The verb that is asked for alone: the settings of each take time to collect."""
        known = LightningCLI.subcommands()
        return {verb: known[verb] for verb in self.flags[:1] if verb in known} or known

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The suite's own settings, and what the network must know of the data."""
        parser.add_class_arguments(RunConfig, "run")
        parser.add_class_arguments(Budget, "budget")
        parser.add_class_arguments(Pretrained, "pretrained")
        # A setting of its own: a list of callbacks in a later layer cannot lose it, one flag can change it.
        parser.add_lightning_class_args(Watchdog, "watchdog")
        parser.add_lightning_class_args(KeepLast, "keep_last")
        parser.add_argument(
            "--matmul",
            type=matmul.Route,
            default="auto",
            help="who multiplies single-precision matrices on a CPU: auto, onednn or default",
        )
        parser.add_argument(
            "--compile",
            type=bool,
            default=False,
            help="compile the network for training (torch.compile)",
        )
        parser.add_argument(
            "--activation_checkpointing",
            type=bool,
            default=False,
            help="keep only the inputs of layers for the backward pass, and compute the rest again",
        )
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
        """Finds the checkpoint that ``ckpt_path`` means, and sees to what it and the configuration disagree in; takes from a
        pre-trained encoder what is to come from there.

        Training goes on with what the configuration says: all that differs from the checkpoint's is named, and what
        cannot be is refused. Any other verb takes the task's settings from the checkpoint, but for those that were given
        as flags.
        """
        verb = self.config.get("subcommand")
        config = self.config[verb] if verb else self.config
        run = config["run"]
        folder = RunConfig(dir=run["dir"], name=run["name"]).checkpoints
        path = None
        if verb:  # nothing else has the setting
            path = config["ckpt_path"] = resuming.find(config.get("ckpt_path"), folder, verb)
        path = path if path != "hpc" else None
        if path is not None:
            self.resumed = checkpoints.load(path, lazily=True)
        self._take_pretrained(verb, path)
        if path is None or verb is None:
            return
        hparams = self.resumed.get("hyper_parameters", {})
        resuming.check_same_architecture(path, hparams, self.config[verb]["model"])
        given = yaml.safe_load(self.parser.dump(self.config, skip_none=False, skip_validation=True))
        if verb == "fit":
            checkpoints.check_can_go_on(self.resumed, path)
            resuming.name_changes(self.resumed.get("config"), given[verb])
        else:
            model = resuming.settings(hparams, given[verb]["model"], self.flags)
            self.config = self.parser.parse_object({verb: {"model": model}}, self.config)

    def _take_pretrained(self, verb: str | None, path: str | None) -> None:
        """Takes architecture and tokenizer from a pre-trained network or, once there is one, from the run's own checkpoint;
        and tells labelled data how the encoder reads texts.
        """
        config = self.config[verb] if verb else self.config
        labelled = issubclass(located(config["data"]["class_path"]), LabelledData)
        given = config["pretrained"]["path"]
        if verb in ("validate", "test", "predict") and given is not None and path is None:
            raise InputError(
                f"--pretrained.path={given} brings an encoder, and {verb} needs a trained task: give its checkpoint as "
                "--ckpt_path"
            )
        if given is not None and (path is None or Path(given).expanduser().exists()):
            origin = pretrained.origin(given)
        elif path is not None and (labelled or given is not None):
            origin = pretrained.of_hparams(path, self.resumed.get("hyper_parameters", {}))
        else:
            origin = None
        translates = issubclass(located(config["model"]["class_path"]), Translation)
        if origin is not None and translates:
            origin = pretrained.as_translator(origin)
        model: dict[str, Any] = {}
        data: dict[str, Any] = {}
        net = config["model"]["init_args"]["net"]
        if origin is not None:
            plain = yaml.safe_load(
                self.parser.dump(self.config, skip_none=False, skip_validation=True)
            )
            model = {"net": origin.net}
            resuming.take_flags(model, (plain[verb] if verb else plain)["model"], self.flags)
            net, data = model["net"], {"tokenizer": {"path": origin.path}}
            if translates and path is None:
                longest = config["data"]["init_args"].get("max_length", 0)  # own data may have none
                pretrained.check_positions(origin, net, longest)
        if labelled:
            data["form"] = config["data"]["init_args"]["form"] or located(net["class_path"]).form
            if origin is not None:
                data["characters"] = origin.spec["max_characters"]
                if origin.spec["bos_first"] and data["form"] == "elmo":
                    data["form"] = "elmo_bos"
                longest = config["data"]["init_args"]["max_length"]
                data["max_length"] = min(longest, origin.positions or longest)
        if model or data:
            changed = {
                key: {"class_path": config[key]["class_path"], "init_args": settings}
                for key, settings in (("model", model), ("data", data))
            }
            self.config = self.parser.parse_object(
                {verb: changed} if verb else changed, self.config
            )

    def instantiate_classes(self) -> None:
        """Says which settings to change when memory runs out; so does `_run_subcommand`."""
        matmul.route(self._get(self.config, "matmul"))
        with memory.explained(
            self.subcommand or "fit", self.config.get(str(self.subcommand), self.config)
        ):
            super().instantiate_classes()
        if self.subcommand == "fit" and self._get(self.config, "activation_checkpointing"):
            self.model.net.recompute()
        if self.subcommand == "fit" and self._get(self.config, "compile"):
            self.model.net.compile()  # in place: names in checkpoints stay as they are

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
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(run.checkpoints.absolute())
        keep_last = self._get(self.config_init, "keep_last")
        keep_last.dirpath = keep_last.dirpath or str(run.checkpoints.absolute())
        start: Pretrained = self._get(self.config_init, "pretrained")
        anew = self._get(self.config_init, "ckpt_path") is None and start.weights
        starts = [WarmStart(start.path)] if start.path is not None and anew else []
        kwargs["callbacks"] = [*(settings["callbacks"] or []), *starts]
        if (
            settings["enable_progress_bar"] is False
        ):  # the shipped list of callbacks has a bar in it
            kwargs["callbacks"] = [c for c in kwargs["callbacks"] if not isinstance(c, ProgressBar)]
        if budget.amount is not None:
            self.model.meter.budget = budget
            kwargs |= {"max_steps": -1, "max_epochs": -1, "max_time": None}
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise InputError(f"trainer: {error}") from error
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if settings["enable_checkpointing"] is False:
            callbacks.remove(keep_last)
        # The watchdog before the others start: what they do may take time, in which a process can die. Then running
        # means: what others make of the weights at the end is to be made of those.
        kinds = (Watchdog, EMA, Callback)
        callbacks.sort(key=lambda c: next(i for i, kind in enumerate(kinds) if isinstance(c, kind)))
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Lightning checks some of the trainer's settings as it goes: they are the user's, too."""
        try:
            with memory.explained(subcommand, self.config[subcommand]):
                super()._run_subcommand(subcommand)
        except MisconfigurationException as error:
            raise InputError(f"trainer: {error}") from error
        except ValueError as error:
            if isinstance(error, InputError) or not re.search(
                "val_check_interval|ckpt_path", str(error)
            ):
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


def load_task(path: str | Path) -> Task:
    """A trained task with its tokenizer, from a checkpoint alone, ready for inference.

    Raises:
        InputError: the file is no checkpoint of lit_lm, or has no tokenizer.
    """
    checkpoint = checkpoints.load(path)
    class_path = str(checkpoint.get("hyper_parameters", {}).get("_class_path", ""))
    try:
        kind = located(class_path)
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
    import_from_here()
    for text in (
        ".*treespec, LeafSpec.*",
        ".*does not have many workers.*",
        ".*number of training batches.*",
        r".*module\(s\) in eval mode.*",  # a frozen encoder
        # sync_dist: the sums behind these are of all ranks, and would only be averaged with themselves
        r"It is recommended to use `self\.log\('(tokens|bytes|flops|seconds|(val|test)/.*)'",
    ):
        warnings.filterwarnings("ignore", text)
    # It tells at every checkpoint that all of it is saved.
    name = "lightning.pytorch.trainer.connectors.checkpoint_connector"
    logging.getLogger(name).setLevel(logging.WARNING)
    # When a disk is full, W&B's own logs are in trouble too, at length and behind the error that says so.
    logging.raiseExceptions = False
    logging.getLogger("asyncio").setLevel(logging.ERROR)
