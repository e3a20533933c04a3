"""Starting quickly."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def importing() -> Iterator[None]:
    """Import large libraries inside: Python's search for cycles rests meanwhile, and then leaves alone what there is.

    What a library makes on import stays until the end. The search would go through all of it many times over while
    it is made, and again whenever there is much that is new.
    """
    searches = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if searches:
            gc.enable()


def import_from_here() -> None:
    """Lets class paths name modules in the working folder: an architecture may live in a file beside its configuration."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def located(class_path: str) -> Any:
    """What a class path names.

    Raises:
        ImportError, AttributeError, ValueError: nothing.
    """
    module, _, name = class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)
