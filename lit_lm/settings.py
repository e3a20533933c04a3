"""The settings of a run, read and checked as ``lit-lm fit`` would; of the run itself nothing is made.

Imports Lightning, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from lit_lm import configs
from lit_lm.data import Data, LabelledData
from lit_lm.errors import InputError
from lit_lm.models import Architecture
from lit_lm.parsing import Parser
from lit_lm.startup import located
from lit_lm.training import LitCLI


class _Settings(LitCLI):
    """Only parses: nothing is made."""

    def _set_seed(self) -> None: ...

    def instantiate_classes(self) -> None: ...


class _NothingRequired(Parser):
    def add_lightning_class_args(self, *args: Any, **options: Any) -> list[str]:
        return super().add_lightning_class_args(*args, **{**options, "required": False})


class _DataSettings(_Settings):
    """Settings of which only the data's must be there."""

    parser_type = _NothingRequired

    def _take_pretrained(self, verb: str | None, path: str | None) -> None:
        data = self.config["data"]
        if data is None:
            raise InputError("no data is given: name a configuration that has `data`")
        # A full experiment may be given, but the model is needed only where it says how texts are read.
        if self.config["model"] is not None:
            super()._take_pretrained(verb, path)
        elif self.config["pretrained"]["path"] is not None or issubclass(
            located(data["class_path"]), LabelledData
        ):
            raise InputError("no model is given, and these data are read as their model reads")


def parse_settings(args: Sequence[str], verb: str = "fit") -> Namespace:
    """The settings of a training run, checked; nothing of it is made.

    Args:
        args: flags, as ``lit-lm fit`` takes them.
        verb: who asks, for error messages.
    """
    return _Settings(args, run=False, verb=verb).config  # type: ignore[no-any-return]


def arguments(kind: type, settings: Any) -> dict[str, Any]:
    """The arguments of a class, made from settings; the class itself is not made.

    Args:
        kind: the class.
        settings: its ``init_args``, as :func:`parse_settings` gives them.
    """
    parser = ArgumentParser(parser_mode="omegaconf")
    parser.add_class_arguments(kind, "made", instantiate=False)
    return dict(parser.instantiate(parser.parse_object({"made": settings}))["made"])


def parse_data(args: Sequence[str]) -> Data:
    """The data module that an experiment's configuration describes; nothing else of it is made."""
    return _data(_DataSettings(args, run=False, verb="prepare").config)


def parse_experiment(args: Sequence[str]) -> tuple[Data, Architecture]:
    """The data module and the architecture that an experiment's configuration describes; no network is made."""
    settings = parse_settings(args)
    net = settings["model"]["init_args"]["net"].as_dict()
    return _data(settings), configs.architecture("model.init_args.net", net)


def _data(settings: Namespace) -> Data:
    parser = ArgumentParser(parser_mode="omegaconf")
    parser.add_subclass_arguments(Data, "data")
    made = parser.instantiate(parser.parse_object({"data": settings["data"]}))
    return made["data"]  # type: ignore[no-any-return]
