"""What repeats in depth: the unit that memory is saved by, and that weights are sharded by."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Layer(nn.Module):
    """One of the layers that a network is a stack of. Whoever stacks them calls :meth:`run`.

    Attributes:
        recompute: keep only a layer's inputs for the backward pass, which computes what is inside again (Chen et al.
            2016, https://arxiv.org/abs/1604.06174): a third more work, and the same numbers, dropout's too.
    """

    recompute: bool = False

    def run(self, *args: Any, **settings: Any) -> Any:
        """What the layer makes of its inputs."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self, *args, use_reentrant=False, **settings)
        return self(*args, **settings)
