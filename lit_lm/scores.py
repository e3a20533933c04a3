"""What outputs are judged by: sacrebleu's metrics, and in the same form BLEU over Moses' tokens, and ROUGE.

In that form (:class:`sacrebleu.metrics.base.Metric`) a score is a function of statistics that are summed over sentences: so
they can be summed over batches and ranks, over the sentences of some length only, and over resampled sentences.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics.base import Metric, Score, Signature
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from lit_lm.errors import InputError

ROUGES = ("rouge1", "rouge2", "rougeL")
LENGTHS = ("1_10", "11_20", "21_30", "31_50", "51_up")
"""Buckets of source words."""

_LONGEST = (10, 20, 30, 50)


def metrics(
    *, lowercase: bool = False, ter: bool = True, moses: str | None = None, rouge: bool = False
) -> dict[str, Metric]:
    """Metrics of sacrebleu's kind by the names that are logged, ready for one reference a sentence.

    Args:
        lowercase: BLEU and chrF of lower-cased texts; sacrebleu's TER always is of those.
        ter: TER too, which takes longer than all the others.
        moses: a language: BLEU over its Moses tokens too, see :class:`MosesBLEU`.
        rouge: ROUGE-1, -2 and -L too, see :class:`Rouge`.
    """
    found: dict[str, Metric] = {"bleu": BLEU(lowercase=lowercase, force=True)}
    found["chrf"] = CHRF(lowercase=lowercase)
    if ter:
        found["ter"] = TER()
    if moses is not None:
        found["bleu_moses"] = MosesBLEU(moses)
    if rouge:
        found |= {kind: Rouge(kind) for kind in ROUGES}
    for metric in found.values():
        metric.corpus_score([""], [[""]])  # the signature tells the number of references
    return found


def statistics(
    metric: Metric, outputs: Sequence[str], references: Sequence[str]
) -> npt.NDArray[np.float64]:
    """The statistics of each sentence, float64 (sentences, statistics)."""
    return np.array(metric._extract_corpus_statistics(outputs, [references]), dtype=np.float64)


def score(metric: Metric, sums: Sequence[float]) -> float:
    """What a metric says of statistics summed over sentences."""
    return float(metric._compute_score_from_stats(list(sums)).score)


def signatures(of: dict[str, Metric]) -> dict[str, str]:
    """How each score was made, in sacrebleu's form, for whoever wants to make it again."""
    return {name: metric.get_signature().format() for name, metric in of.items()}


def length_bucket(source: str) -> int:
    """Index in `LENGTHS` of a source's number of words (what white space separates); 0 words count as few."""
    return bisect_left(_LONGEST, len(source.split()))


class MosesBLEU(BLEU):
    """BLEU over lower-cased texts that Moses' scripts have normalised and tokenised: Multi30k's ``lc.norm.tok``, in
    which its literature scores (https://github.com/multi30k/dataset). By sacremoses.

    Args:
        language: of outputs and references, two letters.

    Raises:
        InputError: Moses does not know the language.
    """

    def __init__(self, language: str) -> None:
        import sacremoses
        from sacremoses.corpus import NonbreakingPrefixes

        known = sorted(set(NonbreakingPrefixes().available_langs.values()))
        if language not in known:
            raise InputError(
                f"Moses' tokenizer knows no language {language!r}: choose one of {', '.join(known)}"
            )
        super().__init__(lowercase=True, tokenize="none", force=True)
        self._normalizer = sacremoses.MosesPunctNormalizer(language)
        self._moses = sacremoses.MosesTokenizer(language)
        version = sacremoses.__version__
        self.tokenizer_signature = f"moses-{language}-norm-sacremoses-{version}"

    def _preprocess_segment(self, sent: str) -> str:
        normal = self._normalizer.normalize(sent.lower())
        return str(self._moses.tokenize(normal, return_str=True))

    def _compute_score_from_stats(self, stats: list[int]) -> Any:
        found = super()._compute_score_from_stats(stats)
        found.name = "BLEU-moses"
        return found


class RougeSignature(Signature):
    """Names the library that ROUGE is computed by."""

    def __init__(self, args: dict[str, Any]) -> None:
        from importlib.metadata import version

        super().__init__(args)
        del self.info["version"]
        self.info |= {"stem": "porter", "f": "mean", "version": f"rouge-score-{version('rouge-score')}"}  # fmt: skip


class Rouge(Metric):
    """Mean F1 of ROUGE over documents (Lin 2004, https://aclanthology.org/W04-1013), 0 to 100, by Google's rouge-score:
    lower-cased words of a to z and 0 to 9, stemmed by Porter, as ROUGE-1.5.5 does with -m. Other scripts have no words there.

    Args:
        kind: one of `ROUGES`: words, pairs of words, or the longest common subsequence.
    """

    _SIGNATURE_TYPE = RougeSignature

    def __init__(self, kind: str) -> None:
        from rouge_score.rouge_scorer import RougeScorer

        super().__init__()  # type: ignore[no-untyped-call]
        self.kind = kind
        self._scorer = RougeScorer([kind], use_stemmer=True)

    def _preprocess_segment(self, sent: str) -> str:
        return sent

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {"references": refs}

    def _compute_segment_statistics(
        self, hypothesis: str, ref_kwargs: dict[str, Any]
    ) -> list[float]:
        """100 F1 (of the best reference), and 1."""
        found = self._scorer.score_multi(ref_kwargs["references"], hypothesis)
        return [100 * float(found[self.kind].fmeasure), 1.0]

    def _compute_score_from_stats(self, stats: Sequence[float]) -> Score:
        total, documents = stats
        mean = float(total / documents) if documents else float("nan")
        return Score(f"ROUGE-{self.kind.removeprefix('rouge')}", mean)

    def _aggregate_and_compute(self, stats: Sequence[Sequence[float]]) -> Score:
        return self._compute_score_from_stats(np.sum(stats, axis=0).tolist())
