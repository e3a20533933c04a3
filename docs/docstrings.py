"""How the site reads docstrings (an extension of griffe, which reads the code for mkdocstrings)."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|func|meth|mod):`~?([^`]+)`")


class Docstrings(griffe.Extension):
    """Makes code of names that are marked in the way of Sphinx, and arguments of the fields of a NamedTuple."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Takes the marks away."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Gives a NamedTuple the signature that it has."""
        if "NamedTuple" not in map(str, cls.bases):
            return
        kind = griffe.ParameterKind.positional_or_keyword
        fields = [
            griffe.Parameter(name, annotation=field.annotation, kind=kind, default=field.value)
            for name, field in cls.attributes.items()
            if field.annotation is not None
        ]
        parameters = griffe.Parameters(griffe.Parameter("self", kind=kind), *fields)
        cls.set_member("__init__", griffe.Function("__init__", parameters=parameters, parent=cls))
