"""``python -m lit_lm`` is ``lit-lm``."""

from lit_lm.cli import console

console()
