"""What a task's data are like before anything is trained on them: counts, lengths, leaks, limits.

Nothing is written. Texts are looked at here and nowhere else; of all that is found, only `shown`
holds any.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from bluestab import stats
from bluestab.core.errors import BluestabError
from bluestab.core.seeding import subset
from bluestab.core.types import SPLITS, Example, Split
from bluestab.data.formats.schemes import n_entities
from bluestab.tasks.base import Task
from bluestab.tasks.shared_texts import documents_of, n_sharing
from bluestab.training.check import Run
from bluestab.training.dry_run_step import is_here
from bluestab.training.tokenise import tokenised

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAIRS: tuple[tuple[Split, Split], ...] = (
    ("train", "validation"), ("train", "test"), ("validation", "test"),
)  # fmt: skip


@dataclass(frozen=True)
class Lengths:
    """Of the items of a split, in word pieces (special ones included) or, without tokenizer, words.

    truncated  share of items that do not fit whole; lost: share of the task's units beyond
    """

    median: int
    high: int
    most: int
    truncated: float | None
    lost: float | None


@dataclass(frozen=True)
class SplitSummary:
    """One split. labels: how often each occurs, of items, entities or (numbers) none; repeated:
    items whose text an earlier item of the split has."""

    n: int
    labels: Mapping[str, int]
    numbers: tuple[float, float, float] | None
    lengths: Lengths
    repeated: int


@dataclass(frozen=True)
class Inspection:
    """What `bluestab inspect` says.

    leaks      (split, later split) -> items of the later one of which a text (either side of a
               pair), apart from case, blanks and punctuation, is in the earlier one; short texts
               without labels do not count
    shared     (split, later split) -> groups (documents) that have items in both
    disputed   texts that occur with different targets
    unit       what lengths count: word pieces, or words where the tokenizer is not here
    baseline   the best single answer to all test items and its score, or None
    failed_at  the score at which, and beyond which, a run has failed
    limits     sentences: what needs no network, and what differences the test part can show
    shown      random training items as the model gets them: (name, input, target)
    higher_is_better  of the metric
    """

    task: str
    model: str
    metric: str
    notes: tuple[str, ...]
    parts: Mapping[Split, SplitSummary]
    leaks: Mapping[tuple[Split, Split], int]
    shared: Mapping[tuple[Split, Split], int]
    disputed: int
    unit: str
    max_length: int
    baseline: tuple[str, float] | None
    failed_at: float | None
    limits: tuple[str, ...]
    shown: tuple[tuple[str, str, str], ...]
    higher_is_better: bool = True


def inspect(run: Run, n_shown: int = 10) -> Inspection:
    """Look at the items that a run would use."""
    data, task = run.data, run.data.task
    items = data.select(run.seeds)
    tokenizer = _tokenizer(run)
    everything = [e for split in SPLITS for e in items[split]]
    return Inspection(
        task=task.name,
        model=run.model.name,
        metric=task.metric,
        notes=data.notes,
        parts={split: _part(run, split, items[split], tokenizer) for split in SPLITS},
        leaks={pair: _leak(items[pair[0]], items[pair[1]]) for pair in PAIRS},
        shared={pair: _shared(items[pair[0]], items[pair[1]]) for pair in PAIRS},
        disputed=_disputed(everything),
        unit="words" if tokenizer is None else "word pieces",
        max_length=task.max_length,
        baseline=task.baseline(data.labels, items["test"]),
        failed_at=task.failed_below,
        limits=(*rivals(task, items["test"]), *limits(task, items["test"])),
        shown=tuple(_shown(run, items["train"], tokenizer, n_shown)),
        higher_is_better=task.headline.higher_is_better,
    )


def _tokenizer(run: Run) -> PreTrainedTokenizerFast | None:
    """The model's tokenizer, if it is on this machine: nothing is fetched."""
    from bluestab.models.tokenizers import load_tokenizer

    try:
        if is_here(run.model):
            return load_tokenizer(run.model, words=run.data.task.output.per_word)
    except BluestabError:
        pass
    return None


def _part(
    run: Run,
    split: Split,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast | None,
) -> SplitSummary:
    task = run.data.task
    seen: Counter[tuple[str, str]] = Counter(plain(e) for e in examples)
    numbers = None
    if task.output.numeric and not task.output.head.pretrains:
        values = [float(e.target) for e in examples]  # type: ignore[arg-type]
        numbers = (min(values), stats.mean(values) or 0.0, max(values))
    return SplitSummary(
        n=len(examples),
        labels=label_counts(task, examples),
        numbers=numbers,
        lengths=_lengths(run, examples, tokenizer),
        repeated=len(examples) - len(seen),
    )


def label_counts(task: Task, examples: Sequence[Example]) -> dict[str, int]:
    """Label -> how many items have it (`Output.label_counts`), the most frequent first."""
    counts = task.output.label_counts(e.target for e in examples)
    named = {name or UNTYPED: n for name, n in counts.items()}
    return dict(sorted(named.items(), key=lambda pair: (-pair[1], pair[0])))


def _lengths(
    run: Run, examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast | None
) -> Lengths:
    if tokenizer is None:
        found = [len(_words(e)) for e in examples]
        truncated = lost = None
    else:
        found = _pieces(examples, tokenizer)
        table = tokenised(run.data, examples, run.model)[0]
        cut = {i for i, t in zip(table["example"], table["truncated"], strict=True) if t}
        truncated = len(cut) / len(examples)
        total = sum(map(run.data.task.size, examples))
        lost = sum(table["lost"]) / total if total else 0.0
    ordered = sorted(found)
    return Lengths(
        ordered[len(ordered) // 2],
        ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)],
        ordered[-1],
        truncated,
        lost,
    )


def _words(e: Example) -> list[str]:
    own = e.text.split() if isinstance(e.text, str) else list(e.text)
    return own + (e.text_pair or "").split()


def _pieces(examples: Sequence[Example], tokenizer: Any) -> list[int]:
    """Word pieces of whole items, nothing cut."""
    words = not isinstance(examples[0].text, str)
    columns: list[list[Any]] = [
        [e.text if isinstance(e.text, str) else list(e.text) for e in examples]
    ]
    if examples[0].text_pair is not None:
        columns.append([e.text_pair for e in examples])
    encoded = tokenizer(
        *columns, is_split_into_words=words, return_attention_mask=False, verbose=False
    )
    return [len(ids) for ids in encoded["input_ids"]]


def plain(e: Example) -> tuple[str, str]:
    """The text of an item without case, blanks and punctuation: what counts as the same text."""
    words = e.text if isinstance(e.text, str) else " ".join(e.text)
    one, two = (
        re.sub(r"[\W_]+", " ", text.casefold()).strip() for text in (words, e.text_pair or "")
    )
    return (one, two) if one or two else (words, e.text_pair or "")


def _leak(earlier: Sequence[Example], later: Sequence[Example]) -> int:
    return n_sharing(earlier, later)


def _shared(earlier: Sequence[Example], later: Sequence[Example]) -> int:
    return len({*documents_of(earlier)} & {*documents_of(later)} - {None})


def _disputed(examples: Sequence[Example]) -> int:
    targets: dict[tuple[str, str], set[Any]] = defaultdict(set)
    for e in examples:
        targets[plain(e)].add(e.target)
    return sum(len(found) > 1 for found in targets.values())


# --- what the test part can show -----------------------------------------------------------------

DECISIONS = 6
"""Decisions that only one of two models gets right before p < 0.05 is possible: 2 * 0.5^6 = 0.03
(exact McNemar, two-sided); with five it is 0.06."""


def rivals(task: Task, test: Sequence[Example]) -> list[str]:
    """Sentences: what needs no network and does not ignore the text gets (`Task.rivals`)."""
    return [
        f"{name} gets "
        + ", ".join(f"{task.metrics[m].words} {s:.4f}" for m, s in scores.items() if s is not None)
        + " on test"
        for name, scores in task.rivals(test).items()
    ]


def limits(task: Task, test: Sequence[Example]) -> list[str]:
    """Sentences: the smallest difference between two models that these test items can show.

    For decisions, if every item on which the two differ speaks for the same one: a bound below
    which nothing can be shown, not one above which everything is. For correlations Fisher's z.
    """
    n = len(test)
    if task.output.head.pretrains:
        return []
    if task.output.numeric:
        return _limits_of_correlation(n)
    if task.output.per_word:
        n, what = sum(map(task.size, test)), task.unit
        if not n:
            return ["the test part holds no entity: nothing can be shown"]
    else:
        what = "items"
    if n < DECISIONS:
        return [f"{n} test {what} can show no difference: {DECISIONS} are needed"]
    return [
        f"{n} test {what}: one is worth {1 / n:.4f}; two models that differ on fewer than "
        f"{DECISIONS} of them ({DECISIONS / n:.4f}) cannot be told apart at 5 % (exact McNemar)"
    ]


def _limits_of_correlation(n: int) -> list[str]:
    if n < 4:
        return [f"{n} test items can show no difference between correlations"]
    z = NormalDist().inv_cdf(0.975)
    critical = math.tanh(z / math.sqrt(n - 3))
    near = 0.8
    other = math.tanh(math.atanh(near) - z * math.sqrt(2 / (n - 3)))
    return [
        f"{n} test items: a correlation below {critical:.3f} cannot be told from none; beside "
        f"{near} that of another model must be below {other:.3f} to be told apart at 5 % "
        "(Fisher's z, as if on other items)"
    ]


# --- items as the model gets them ----------------------------------------------------------------


def _shown(
    run: Run,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast | None,
    n: int,
) -> list[tuple[str, str, str]]:
    ids = [e.id for e in examples]
    chosen = subset(examples, ids, min(n, len(ids)), run.seeds.split, "inspect") if n else []
    if not chosen:
        return []
    if tokenizer is None:
        return [(e.id, " ".join(_words(e)), said(e)) for e in chosen]
    columns = run.data.task.encode(chosen, run.data.labels, tokenizer)
    windows: list[list[str]] = [[] for _ in chosen]
    for row, i in enumerate(columns["example"]):
        pieces = tokenizer.convert_ids_to_tokens(columns["input_ids"][row])
        if run.data.task.output.per_word:
            marks = [run.data.labels[k] if k >= 0 else "O" for k in columns["labels"][row]]
            pieces = [p if m == "O" else f"{p}/{m}" for p, m in zip(pieces, marks, strict=True)]
        windows[i].append(" ".join(pieces))
    answer = (lambda e: "masked") if run.data.task.output.head.pretrains else said
    return [(e.id, _shortened(parts), answer(e)) for e, parts in zip(chosen, windows, strict=True)]


WINDOWS = 2
"""Of a long document that are shown."""


def _shortened(windows: Sequence[str]) -> str:
    """The first windows of an item, and how many there are."""
    if len(windows) <= WINDOWS:
        return " | ".join(windows)
    shown = " | ".join(windows[:WINDOWS])
    return f"(the first {WINDOWS} of {len(windows)} windows) {shown}"


UNTYPED = "(without a type)"


def said(e: Example) -> str:
    """The target of an item: of tags how many entities of which type."""
    if not isinstance(e.target, tuple):
        return str(e.target)
    if isinstance(e.text, str):
        return ", ".join(e.target) or "(none)"
    counts = n_entities([e.target])
    return ", ".join(f"{n} {kind or UNTYPED}" for kind, n in sorted(counts.items())) or "(none)"
