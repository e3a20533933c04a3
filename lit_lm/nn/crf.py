"""A linear-chain conditional random field: the best sequence of tags, not the best tag of each word.

Lafferty et al. 2001; over the scores of a network Lample et al. 2016, section 2.2, https://aclanthology.org/N16-1030.

Shape letters: B sentences, W words, V words but the first, T tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_NEVER = -1e30
"""The score of what is not allowed: its exponential is 0. Minus infinity would make gradients NaN where a tag cannot be
reached.
"""


class CRF(nn.Module):
    """Learned scores of the first tag, the last tag, and each step from one tag to the next.

    All methods compute in float32 at least, also under autocast. Masks are bool (B, W), W at least 1: True at real
    words, which stand on the left.

    Args:
        num_tags: how many tags there are.
        allowed: bools by tag: which may be the first, which the last, and (T, T) which may come behind which, as
            :func:`lit_lm.data.labelled.tags.allowed` says; everything when None. What is not allowed has no probability.
    """

    may_start: Tensor
    may_end: Tensor
    may_step: Tensor

    def __init__(
        self,
        num_tags: int,
        allowed: tuple[Sequence[Any], Sequence[Any], Sequence[Any]] | None = None,
    ) -> None:
        super().__init__()
        shapes = {"start": (num_tags,), "end": (num_tags,), "step": (num_tags, num_tags)}
        for i, (name, shape) in enumerate(shapes.items()):
            may = (
                torch.tensor(allowed[i], dtype=torch.bool) if allowed else torch.ones(shape).bool()
            )
            if may.shape != shape:
                raise ValueError(f"allowed[{i}] is {list(may.shape)} for {num_tags} tags")
            self.register_buffer(f"may_{name}", may, persistent=False)
        self.start = nn.Parameter(torch.zeros(num_tags))
        self.end = nn.Parameter(torch.zeros(num_tags))
        self.step = nn.Parameter(torch.zeros(num_tags, num_tags))

    def loss(self, scores_BWT: Tensor, tags_BW: Tensor, mask_BW: Tensor) -> Tensor:
        """Minus the log-likelihood of tags, in nats, summed over sentences: a float scalar. A sentence without words
        counts 0, one with a tag that is not allowed there 1e30.

        Args:
            scores_BWT: float, of each tag for each word.
            tags_BW: int64 true tags; what stands at padding does not matter.
            mask_BW: real words.
        """
        scores_BWT, start_T, end_T, step_TT = self._scores(scores_BWT, mask_BW)
        tags_BW = tags_BW.masked_fill(~mask_BW, 0)
        last_B1 = (mask_BW.sum(1, keepdim=True) - 1).clamp(min=0)
        words_BW = scores_BWT.gather(2, tags_BW.unsqueeze(2)).squeeze(2)  # 0 at padding
        steps_BV = step_TT[tags_BW[:, :-1], tags_BW[:, 1:]]
        steps_BV = steps_BV.masked_fill(~mask_BW[:, 1:], 0)
        ends_B = start_T[tags_BW[:, 0]] + end_T[tags_BW.gather(1, last_B1).squeeze(1)]
        path_B = words_BW.sum(1) + steps_BV.sum(1) + ends_B
        alpha_BT = _forward(scores_BWT, start_T, step_TT, mask_BW)[:, -1]
        loss_B = (alpha_BT + end_T).logsumexp(1) - path_B
        return loss_B.masked_fill(~mask_BW[:, 0], 0).sum()

    @torch.no_grad()
    def decode(self, scores_BWT: Tensor, mask_BW: Tensor) -> Tensor:
        """The most probable tags (Viterbi 1967): int64 (B, W), -1 at padding.

        Args:
            scores_BWT: float, of each tag for each word.
            mask_BW: real words.
        """
        scores_BWT, start_T, end_T, step_TT = self._scores(scores_BWT, mask_BW)
        stay_BT = torch.arange(len(start_T), device=mask_BW.device).expand(len(mask_BW), -1)
        best_BT, before = start_T + scores_BWT[:, 0], []
        for i in range(1, mask_BW.shape[1]):
            real_B1 = mask_BW[:, i, None]
            next_BT, from_BT = (best_BT.unsqueeze(2) + step_TT).max(1)
            best_BT = torch.where(real_B1, next_BT + scores_BWT[:, i], best_BT)
            before.append(torch.where(real_B1, from_BT, stay_BT))
        tags = [(best_BT + end_T).argmax(1, keepdim=True)]
        for from_BT in reversed(before):
            tags.append(from_BT.gather(1, tags[-1]))
        return torch.cat(tags[::-1], 1).masked_fill(~mask_BW, -1)

    def marginals(self, scores_BWT: Tensor, mask_BW: Tensor) -> Tensor:
        """The probability of each tag at each word, over all sequences: float (B, W, T), 0 at padding.

        Args:
            scores_BWT: float, of each tag for each word.
            mask_BW: real words.
        """
        scores_BWT, start_T, end_T, step_TT = self._scores(scores_BWT, mask_BW)
        alpha_BWT = _forward(scores_BWT, start_T, step_TT, mask_BW)
        beta = [end_T.expand_as(scores_BWT[:, 0])]
        for i in range(mask_BW.shape[1] - 1, 0, -1):
            next_BT = (step_TT + (scores_BWT[:, i] + beta[-1]).unsqueeze(1)).logsumexp(2)
            beta.append(torch.where(mask_BW[:, i, None], next_BT, end_T))
        joint_BWT = alpha_BWT + torch.stack(beta[::-1], 1)
        return joint_BWT.softmax(2).masked_fill(~mask_BW.unsqueeze(2), 0)

    def _scores(self, scores_BWT: Tensor, mask_BW: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of words, 0 at padding; of the first tag, the last tag and steps, where allowed."""
        dtype = torch.promote_types(scores_BWT.dtype, torch.float32)
        start_T, end_T, step_TT = (
            score.to(dtype).masked_fill(~may, _NEVER)
            for score, may in (
                (self.start, self.may_start),
                (self.end, self.may_end),
                (self.step, self.may_step),
            )
        )
        return scores_BWT.to(dtype).masked_fill(~mask_BW.unsqueeze(2), 0), start_T, end_T, step_TT


def _forward(scores_BWT: Tensor, start_T: Tensor, step_TT: Tensor, mask_BW: Tensor) -> Tensor:
    """Log of the sums over all tags up to a word, by its tag; at padding that of the last word."""
    alpha = [start_T + scores_BWT[:, 0]]
    for i in range(1, mask_BW.shape[1]):
        next_BT = (alpha[-1].unsqueeze(2) + step_TT).logsumexp(1) + scores_BWT[:, i]
        alpha.append(torch.where(mask_BW[:, i, None], next_BT, alpha[-1]))
    return torch.stack(alpha, 1)
