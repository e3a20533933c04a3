"""Losses as sums and counts, so that any mean can be taken exactly once, over any set of tokens.

Shape letters: B rows, L positions, D width, N predicted positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.nn.content import has_content
from lit_lm.nn.precision import product_dtype, without_autocast


class LossSum(NamedTuple):
    """A loss summed over targets.

    Args:
        total: float scalar, nats summed over targets; what is differentiated.
        targets: int64 scalar, how many there are.
        correct: int64 scalar, targets that had the largest logit; None where it was not asked for.
        parts: the losses that this one is made of, by name, to be logged each on its own.
    """

    total: Tensor
    targets: Tensor
    correct: Tensor | None = None
    parts: Mapping[str, LossSum] | None = None


def cross_entropy(
    h_BLD: Tensor,
    head: Callable[[Tensor], Tensor],
    labels_BL: Tensor,
    *,
    label_smoothing: float = 0.0,
    accuracy: bool = False,
    count: int | None = None,
) -> LossSum:
    """Cross-entropy of an output layer's logits, projected at the predicted positions only.

    Label smoothing is Szegedy et al. 2016, section 7, as in Vaswani et al. 2017, section 5.4.

    Logits of all positions never exist at once where ``head`` is a linear map, or ends in one that it names ``output``
    behind what its ``hidden`` computes: they are made for some rows at a time, and turned into gradients at once.
    Such a loss can be differentiated once, and once only.

    Args:
        h_BLD: float hidden vectors, of any leading shape.
        head: maps them to logits.
        labels_BL: int64 targets of the same leading shape, -100 where nothing is predicted.
        label_smoothing: share of probability spread over the whole vocabulary, 0 to 1.
        accuracy: also count correct predictions.
        count: how many labels are not -100, where that is known: a GPU need not be waited for. Labels without content
            (``nn/content.py``) are all taken as such if nothing is said.

    Raises:
        ValueError: it is another number (seen on a CPU only).
    """
    labels_N, h_ND = labels_BL.flatten(), h_BLD.flatten(0, -2)
    if not has_content(labels_N):
        count = len(labels_N) if count is None else count
    elif count is None or not labels_N.is_cuda:
        given, count = count, int((labels_N != -100).sum())
        if given not in (None, count):
            raise ValueError(f"the batch's size says {given} labels, and there are {count}")
    if count < len(labels_N):
        index_N = (labels_N != -100).nonzero_static(size=count).squeeze(1)
        labels_N, h_ND = labels_N[index_N], h_ND.index_select(0, index_N)
    targets = torch.full((), count, device=labels_BL.device)
    parts = last_map(head)
    if parts is None:
        logits_NV = widen(head(h_ND))
        total = F.cross_entropy(
            logits_NV, labels_N, reduction="sum", label_smoothing=label_smoothing
        )
        right = (logits_NV.argmax(-1) == labels_N).sum() if accuracy else None
        return LossSum(total, targets, right)
    hidden, output = parts
    h_ND = h_ND if hidden is None else hidden(h_ND)
    total, correct = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        h_ND,
        output.weight,
        output.bias,
        labels_N,
        label_smoothing,
        accuracy,
        torch.is_grad_enabled(),
    )
    return LossSum(total, targets, correct if accuracy else None)


def last_map(
    head: Callable[[Tensor], Tensor],
) -> tuple[Callable[[Tensor], Tensor] | None, nn.Linear] | None:
    """A head's last linear map, and what computes that map's inputs (None for nothing); None for a head that cannot be
    taken apart. Subclasses of ``nn.Linear`` may compute something else, and are left whole.
    """
    if type(head) is nn.Linear:
        return None, head
    output, hidden = getattr(head, "output", None), getattr(head, "hidden", None)
    return (hidden, output) if type(output) is nn.Linear and callable(hidden) else None


# Logits that are made at a time, and rows at least: products of fewer rows are slow. On a CPU as many as its caches hold.
_LOGITS, _LOGITS_ON_GPU = 1 << 21, 1 << 28
_ROWS = 256
_as_on_gpu = False


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Inside, as many logits are made at a time as on a GPU: for finding out elsewhere what a step takes there."""
    global _as_on_gpu
    before, _as_on_gpu = _as_on_gpu, True
    try:
        yield
    finally:
        _as_on_gpu = before


class _LinearCrossEntropy(torch.autograd.Function):
    """A linear map and the cross-entropy of its outputs, some rows at a time, with the gradients taken on the way.

    In mixed precision products are in half precision, and softmax and sums in single, as in torch's own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        labels_N: Tensor,
        smoothing: float,
        accuracy: bool,
        differentiable: bool,
    ) -> tuple[Tensor, Tensor]:
        dtype = product_dtype(h_ND)
        wanted = [differentiable and needed for needed in ctx.needs_input_grad[:3]]
        with without_autocast(h_ND):
            total, correct, gradients = _by_stretches(
                h_ND.to(dtype),
                weight_VD.to(dtype),
                None if bias_V is None else bias_V.to(dtype),
                labels_N,
                smoothing,
                accuracy,
                wanted,
            )
        inputs = (h_ND, weight_VD, bias_V)
        ctx.gradients = [
            None if d is None else d.to(x.dtype)  # type: ignore[union-attr]
            for d, x in zip(gradients, inputs, strict=True)
        ]
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError(
                "this loss can be differentiated only once: its forward pass made the gradients"
            )
        scaled = (None if d is None else d.mul_(outputs[0]) for d in gradients)
        return (*scaled, None, None, None, None)


def _by_stretches(
    h_ND: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    labels_N: Tensor,
    smoothing: float,
    accuracy: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """The summed loss, correct predictions, and the gradients that are wanted of the first three arguments."""
    (N, V), device = (len(h_ND), len(weight_VD)), h_ND.device
    wide = torch.promote_types(h_ND.dtype, torch.float32)
    dh, dw, db = (
        torch.empty_like(h_ND) if wanted[0] else None,
        torch.zeros(weight_VD.shape, dtype=wide, device=device) if wanted[1] else None,
        torch.zeros(V, dtype=wide, device=device) if wanted[2] else None,
    )
    total, correct = torch.zeros((), dtype=wide, device=device), labels_N.new_zeros(())
    rows = max(_ROWS, (_LOGITS_ON_GPU if h_ND.is_cuda or _as_on_gpu else _LOGITS) // V)
    starts = range(0, N, rows)
    # Without content there is nothing to be added up: the first ones take what all others take.
    for i in starts if has_content(h_ND) else starts[:2]:
        h_nD, label_n1 = h_ND[i : i + rows], labels_N[i : i + rows, None]
        z_nV = F.linear(h_nD, weight_VD, bias_V).to(wide)
        if accuracy:
            most_n1, which_n1 = z_nV.max(-1, keepdim=True)
            correct += (which_n1 == label_n1).sum()
        else:
            most_n1 = z_nV.amax(-1, keepdim=True)
        total -= (1 - smoothing) * z_nV.gather(1, label_n1).sum()
        if smoothing:
            total -= smoothing * z_nV.mean(-1).sum()
        sums_n1 = z_nV.sub_(most_n1).exp_().sum(-1, keepdim=True)
        total += (sums_n1.log() + most_n1).sum()
        if not any(wanted):
            continue
        z_nV.div_(sums_n1)  # probabilities; and then, less the targets, the gradient
        if smoothing:
            z_nV.sub_(smoothing / V)
        z_nV.scatter_add_(1, label_n1, z_nV.new_full(label_n1.shape, smoothing - 1))
        d_nV = z_nV.to(h_ND.dtype)
        if dh is not None:
            torch.mm(d_nV, weight_VD, out=dh[i : i + rows])
        if dw is not None and d_nV.dtype == wide:
            dw.addmm_(d_nV.t(), h_nD)
        elif dw is not None:
            dw += d_nV.t() @ h_nD
        if db is not None:
            db += z_nV.sum(0)
    return total, correct, [dh, dw, db]


def widen(logits: Tensor) -> Tensor:
    """Logits in single precision at least: a softmax in half precision loses what is learned."""
    return logits if logits.dtype == torch.float64 else logits.float()


class SampledSoftmax:
    """Cross-entropies whose normaliser is estimated from a sample of the vocabulary (Bengio and Senecal 2008;
    Jean et al. 2015, section 3): exact in the limit of many draws. For training only.

    Words are drawn from the log-uniform distribution over ids, which suits a vocabulary in order of
    frequency (Jozefowicz et al. 2016, section 3.1). A word that was drawn, however often, counts by one over
    the probability that it is (Horvitz and Thompson 1952). The target itself always counts once.

    The rows of the output layer that are needed are taken from it once, for all losses of a step.

    Args:
        head: the output layer.
        labels: int64 targets of any shape, all that will be asked for; -100 where nothing is predicted.
        num_samples: words to draw, the same for all targets.
    """

    def __init__(self, head: nn.Linear, labels: Tensor, num_samples: int) -> None:
        size = head.out_features
        draws = torch.rand(num_samples, device=labels.device)
        drawn = (torch.exp(draws * math.log(size + 1)) - 1).long().clamp(max=size - 1)
        sample_S: Tensor = torch.unique(drawn)
        share_S = log_uniform(size, sample_S.device)[sample_S]
        # The logarithm of 1 - (1 - share)^num_samples.
        self.log_chance_S = (-torch.expm1(num_samples * torch.log1p(-share_S))).log().float()
        needed = torch.cat((sample_S, labels[labels != -100]))
        self.ids_K: Tensor = torch.unique(needed)
        self.sample_S = torch.searchsorted(self.ids_K, sample_S)
        # Each row is taken once: its gradient is added to the layer's once.
        self.weight_KD = head.weight.index_select(0, self.ids_K)
        bias = head.bias if head.bias is not None else head.weight.new_zeros(size)
        self.bias_K = bias.index_select(0, self.ids_K)

    def cross_entropy(self, h_BLD: Tensor, labels_BL: Tensor) -> LossSum:
        """The loss of some of the targets.

        Args:
            h_BLD: float hidden vectors, of any leading shape.
            labels_BL: int64 targets of the same leading shape, -100 where nothing is predicted.
        """
        keep = labels_BL != -100
        labels_N, h_ND = torch.searchsorted(self.ids_K, labels_BL[keep]), h_BLD[keep]
        weight_ND, bias_N = F.embedding(labels_N, self.weight_KD), self.bias_K[labels_N]
        own_N = (h_ND * weight_ND).sum(-1).float() + bias_N
        weight_SD = self.weight_KD.index_select(0, self.sample_S)
        others_NS = F.linear(h_ND, weight_SD, self.bias_K.index_select(0, self.sample_S)).float()
        others_NS = others_NS - self.log_chance_S
        others_NS = others_NS.masked_fill(labels_N.unsqueeze(1) == self.sample_S, float("-inf"))
        logits = torch.cat((own_N.unsqueeze(1), others_NS), dim=1)
        total = F.cross_entropy(logits, torch.zeros_like(labels_N), reduction="sum")
        return LossSum(total, torch.tensor(labels_N.numel(), device=labels_BL.device))


def log_uniform(size: int, device: torch.device | None = None) -> Tensor:
    """float64 (size): the distribution over ids that words are drawn from, of a vocabulary in order of frequency."""
    ids = torch.arange(size, dtype=torch.float64, device=device)
    return torch.log1p(1 / (ids + 1)) / math.log(size + 1)
