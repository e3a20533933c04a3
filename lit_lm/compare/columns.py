"""What is compared: the columns of every table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lit_lm.compare.numbers import Kind

Row = dict[str, Any]
Group = Literal["quality", "gaps", "cost"]
Part = Literal["text", "directions", "gaps", "pairs", "outputs"]


@dataclass(frozen=True)
class Column:
    """One thing that is known of a member.

    Args:
        key: its name in ``results.json`` and in the CSV.
        title: its heading.
        kind: how its numbers are written.
        group: the table it stands in; None for the CSV only.
        metric: the test metric that it is; None where it is no test metric.
        part: what a member must do to have it: give a probability of a text, in both directions, fill gaps,
            judge pairs of sentences, write outputs that can be scored; None where every member has it.
        better: which value wins inside a league; None where neither is better.
        unit: a unit to be written beside the scale's own.
        help: what it is, in a sentence.
    """

    key: str
    title: str
    kind: Kind
    group: Group | None
    metric: str | None = None
    part: Part | None = None
    better: Literal["low", "high"] | None = None
    unit: str = ""
    help: str = ""


TEXT = (
    Column(
        "loss",
        "loss",
        "ratio",
        "quality",
        metric="loss",
        part="text",
        better="low",
        unit="nats",
        help="mean test cross-entropy per predicted token, over both directions where there are two",
    ),
    Column(
        "bits_per_byte",
        "bits per byte",
        "ratio",
        "quality",
        metric="bpb",
        part="text",
        better="low",
        help="test cross-entropy per byte of raw text, the mean of both directions where there are two",
    ),
    Column(
        "perplexity",
        "perplexity",
        "ratio",
        "quality",
        metric="ppl",
        part="text",
        better="low",
        help="exp(loss) on the test split",
    ),
    Column(
        "optimal_perplexity",
        "optimum",
        "ratio",
        "quality",
        metric="optimal_ppl",
        part="text",
        help="lowest perplexity that this data allows, in either direction",
    ),
    Column(
        "above_optimum",
        "above optimum",
        "percent",
        "quality",
        part="text",
        better="low",
        help="perplexity / optimum - 1",
    ),
    Column(
        "forward_perplexity",
        "forward",
        "ratio",
        "quality",
        metric="forward_ppl",
        part="directions",
        better="low",
        help="perplexity of tokens guessed from those before them",
    ),
    Column(
        "backward_perplexity",
        "backward",
        "ratio",
        "quality",
        metric="backward_ppl",
        part="directions",
        better="low",
        help="perplexity of tokens guessed from those behind them",
    ),
    Column(
        "bleu",
        "BLEU",
        "score",
        "quality",
        metric="bleu",
        part="outputs",
        better="high",
        help="of decoded test sentences (sacrebleu, 0 to 100)",
    ),
    Column(
        "exact_match",
        "exact match",
        "percent",
        "quality",
        metric="exact_match",
        part="outputs",
        better="high",
        help="test sentences decoded word for word",
    ),
    Column(
        "accuracy",
        "accuracy",
        "percent",
        None,
        metric="accuracy",
        part="text",
        better="high",
        help="test tokens predicted right given the true text on the side that is read",
    ),
)
GAPS = (
    Column(
        "masked_loss",
        "gap loss",
        "ratio",
        "gaps",
        metric="mlm_loss",
        part="gaps",
        better="low",
        unit="nats",
        help="mean test cross-entropy per hidden token, many hidden at a time: no loss over the text",
    ),
    Column(
        "masked_accuracy",
        "gaps filled",
        "percent",
        "gaps",
        metric="mlm_accuracy",
        part="gaps",
        better="high",
        help="hidden test tokens guessed right, many hidden at a time",
    ),
    Column(
        "cloze_accuracy",
        "lone gaps filled",
        "percent",
        "gaps",
        metric="pll_accuracy",
        part="gaps",
        better="high",
        help="tokens of the first test texts guessed right, each with it alone hidden",
    ),
    Column(
        "optimal_cloze_accuracy",
        "lone gaps optimum",
        "percent",
        "gaps",
        metric="pll_optimal_accuracy",
        part="gaps",
        help="share of lone gaps that the best possible reader fills right",
    ),
    Column(
        "next_sentence_loss",
        "next-sentence loss",
        "ratio",
        None,
        metric="nsp_loss",
        part="pairs",
        better="low",
        unit="nats/pair",
        help="mean test cross-entropy of whether the second sentence follows the first",
    ),
    Column(
        "next_sentence_accuracy",
        "next sentence told",
        "percent",
        "gaps",
        metric="nsp_accuracy",
        part="pairs",
        better="high",
        help="test pairs of which it is told right whether the second sentence follows the first",
    ),
    Column(
        "pseudo_perplexity",
        "pseudo perplexity",
        "ratio",
        "gaps",
        metric="pll_ppl",
        part="gaps",
        better="low",
        help="exp(loss) of lone gaps: no probability of a text, not to be compared with perplexity",
    ),
    Column(
        "optimal_pseudo_perplexity",
        "pseudo optimum",
        "ratio",
        "gaps",
        metric="pll_optimal_ppl",
        part="gaps",
        help="lowest pseudo-perplexity that this data allows",
    ),
    Column(
        "pseudo_bits_per_byte",
        "pseudo bits per byte",
        "ratio",
        "gaps",
        metric="pll_bpb",
        part="gaps",
        better="low",
        help="loss of lone gaps per byte of raw text: not to be compared with bits per byte",
    ),
)
COST = (
    Column("parameters", "parameters", "count", "cost", help="trainable, shared ones counted once"),
    Column("steps", "steps", "count", None, help="optimizer steps"),
    Column("tokens", "tokens", "count", "cost", help="predicted in training"),
    Column("bytes", "text", "bytes", "cost", help="raw bytes that the tokens stand for"),
    Column(
        "flops",
        "compute",
        "count",
        "cost",
        unit="FLOP",
        help="of the model, forward and backward, without padding",
    ),
    Column("seconds", "training", "seconds", "cost", help="time in training, without validation"),
    Column(
        "tokens_per_second",
        "speed",
        "count",
        "cost",
        unit="tokens/s",
        help="tokens / training time",
    ),
    Column("peak_memory_bytes", "peak memory", "bytes", "cost", help="most in use while training"),
    Column(
        "wall_seconds",
        "whole time",
        "seconds",
        None,
        help="from start to result, everything included",
    ),
)
COLUMNS = (*TEXT, *GAPS, *COST)
BY_KEY = {column.key: column for column in COLUMNS}
