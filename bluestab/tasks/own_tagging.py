"""Own files with entities: words and tags (CoNLL, lists), or texts with spans (JSON, BRAT, ...)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from bluestab.core.errors import DataError
from bluestab.core.types import Example, Split
from bluestab.data.formats.base import Document, Rows, TaggedWords, as_text, short
from bluestab.data.formats.columns import choose, find, texts
from bluestab.data.formats.conll import read_conll_columns
from bluestab.data.formats.offsets import in_characters
from bluestab.data.formats.schemes import SCHEMES, n_entities, n_stray, scheme_of, to_iob2
from bluestab.data.formats.spans import Losses, tag_words
from bluestab.data.formats.tag_forms import hyphenated
from bluestab.tasks.base import Corpus, Task
from bluestab.tasks.own import (
    OWN_FORMATS,
    READING,
    SPAN_READERS,
    OwnFiles,
    balance,
    describe,
    noted,
    unknown,
)
from bluestab.tasks.own_cells import (
    check_span,
    is_list,
    is_objects,
    is_tags,
    is_written_list,
    parse_spans,
    parse_strings,
)
from bluestab.tasks.own_labels import check_alike
from bluestab.tasks.tagging import Tagging


@dataclass
class _Found:
    """What is read so far. tagged: sentences whose tags are still those of the file; groups: name
    of a row -> its group; losses: what the rules for spans left out."""

    tagged: dict[Split, tuple[Path, Sequence[TaggedWords]]] = field(default_factory=dict)
    splits: dict[Split, list[Example]] = field(default_factory=dict)
    groups: dict[Split, Mapping[str, str | None]] = field(default_factory=dict)
    losses: Losses = field(default_factory=Losses)


@dataclass(frozen=True, kw_only=True)
class OwnTagging(OwnFiles, Tagging):
    """Entities: an item is a sentence (of words and tags) or a text (with spans)."""

    text: str | int | None
    label: str | int | None
    sentence: str | int | None = None
    scheme: str

    formats: ClassVar[tuple[str, ...]] = OWN_FORMATS
    words: ClassVar[bool] = True
    descriptive: ClassVar[frozenset[str]] = READING | {"scheme", "sentence"}
    columns: ClassVar[tuple[str, ...]] = (*OwnFiles.columns, "sentence")

    def check(self) -> list[str]:
        problems = super().check()
        if self.scheme not in ("auto", *SCHEMES):
            problems.append(unknown(str(self.scheme), ("auto", *SCHEMES), "scheme"))
        return problems

    def read_all(self, paths: Mapping[Split, Path]) -> Corpus:
        found = _Found()
        said = {split: (path, self._read(split, path, found)) for split, path in paths.items()}
        _check_offsets(next(iter(paths.values())), found.losses)
        decoded = self._decode(found)
        self._look_over(paths, found)
        counted = [
            f"{split}: {sum(counts.values())} entities"
            + (f" ({balance(counts.elements())})" if any(counts) else "")
            for split in paths
            if (counts := n_entities(map(_tags, found.splits[split])))
        ]
        notes = (*noted(said), *decoded, *found.losses.notes(), *counted)
        return Corpus({split: found.splits[split] for split in paths}, notes)

    def _read(self, split: Split, path: Path, found: _Found) -> list[str]:
        """Add a file to `found`; what is to be said of it."""
        kind = self.format_of(path)
        self._check_columns(path, kind)
        if kind == "conll":
            read = read_conll_columns(path, word=self._number("text"), tag=self._number("label"))
            found.tagged[split] = (path, read.sentences)
            return [f"conll, {len(read.sentences)} sentences", *read.notes]
        if kind in SPAN_READERS:
            documents = SPAN_READERS[kind](path)
            found.splits[split] = _from_documents(documents.documents, found.losses)
            return [f"{kind}, {len(documents.documents)} documents", *documents.notes]
        rows = self.rows(path, kind, [self.id, self.group, self.text, self.label, self.sentence])
        if not rows.rows:
            raise DataError(path, f"holds no items, the {split} split would be empty")
        return [*rows.notes, *self._read_rows(split, rows, kind, found)]

    def _check_columns(self, path: Path, kind: str) -> None:
        """Raises DataError for columns of a file that has none: they would silently do nothing."""
        without = ["id", "group", "sentence", *(("text", "label") if kind != "conll" else ())]
        given = [knob for knob in without if getattr(self, knob) is not None]
        if given and (kind == "conll" or kind in SPAN_READERS):
            raise DataError(
                path,
                f"is {kind}, which has no columns for task.{given[0]}; its documents stay together "
                "where parts are drawn, without it",
            )

    def _number(self, knob: str) -> int | None:
        value = getattr(self, knob)
        if value is None or isinstance(value, int):
            return value
        if value.isdecimal():
            return int(value)
        raise DataError(
            self.train, f"task.{knob} is {value!r}, but the columns of CoNLL are numbers from 0"
        )

    def _read_rows(self, split: Split, rows: Rows, kind: str, found: _Found) -> list[str]:
        """Rows with lists of words and tags, or with a text and its spans."""
        words = find(rows, "tokens") if self.text is None else None
        if words is not None and is_objects(rows.column(words, "task.text")):
            words = None  # Prodigy's tokens: where words stand in the text, which is there, too
        first = words or choose(rows, "text", self.text)
        has_words = words is not None or is_list(rows.column(first, "task.text"))
        role = "tags" if has_words else "spans"
        second = choose(rows, role, self.label, taken=[first], knob="task.label")
        values = rows.column(second, "task.label")
        if not has_words and is_tags(values):
            has_words = True
        if (sentence := self._sentence_of(rows, first, second, has_words)) is not None:
            if self.id is not None:
                raise DataError(
                    rows.path,
                    f"task.id is {self.id!r}, but a row is a word here and {sentence} "
                    "(task.sentence) names its sentence; leave task.id out",
                )
            roles = {"text": first, "label": second, "sentence": sentence}
            read, groups, notes = self._word_rows(rows, roles)
            found.tagged[split] = (rows.path, read)
            found.groups[split] = groups
            return [describe(rows, kind, roles), *notes]
        roles = {"text": first, "label": second}
        ids, its_groups, notes = self.names_and_groups(rows, roles)
        notes = [describe(rows, kind, roles), *notes]
        if has_words:
            found.tagged[split] = (rows.path, self._sentences(rows, first, second, ids))
            found.groups[split] = dict(zip(ids, its_groups, strict=True))
        else:
            notes += _unmarked(rows, second)
            documents = [
                Document(
                    i,
                    text,
                    tuple(parse_spans(rows, n, value)),
                    rows.path,
                    rows.lines[n],
                    group,
                )
                for n, (i, text, value, group) in enumerate(
                    zip(ids, texts(rows, first, "task.text"), values, its_groups, strict=True)
                )
            ]
            row = {name: n for n, name in enumerate(ids)}
            documents, said = in_characters(
                documents, lambda d, span: check_span(rows, row[d.id], d.text, span)
            )
            found.splits[split] = _from_documents(documents, found.losses)
            notes += said
        return notes

    def _sentence_of(self, rows: Rows, first: str, second: str, has_words: bool) -> str | None:
        """The column that says which words are one sentence, where a row is a word; else None.

        Raises DataError where a row is a word and nothing says so.
        """
        words = rows.column(first, "task.text")
        single = all(isinstance(word, str) and len(word.split()) <= 1 for word in words)
        if self.sentence is not None:
            if not single:
                raise DataError(
                    rows.path,
                    f"task.sentence is for files with a word per row, but {first} (task.text) "
                    "holds several words",
                )
            return rows.columns[rows.index(self.sentence, "task.sentence")]
        if not single or not has_words:
            return None
        column = find(rows, "sentence", taken=[first, second])
        if column is None and len(words) > 1 and not any(map(is_written_list, words)):
            raise DataError(
                rows.path,
                f"every row holds one word ({first}): which rows are one sentence? say "
                "task.sentence=COLUMN; one of: " + ", ".join(rows.columns),
            )
        return column

    def _word_rows(
        self, rows: Rows, roles: dict[str, str]
    ) -> tuple[list[TaggedWords], dict[str, str | None], list[str]]:
        """A word per row -> sentences, in the order of the file; group of each; what to say.

        An empty cell in the sentence's column goes on with the sentence above.
        """
        words, tags = (rows.column(roles[r], f"task.{r}") for r in ("text", "label"))
        cells = [as_text(value) for value in rows.column(roles["sentence"], "task.sentence")]
        groups: list[Any] = [None] * len(words)
        if (group := self.group_column(rows, [*roles.values()])) is not None:
            roles["group"] = group
            groups = rows.column(group, "task.group")
        starts: dict[str, int] = {}
        current = None
        for i, cell in enumerate(cells):
            name = (cell or "").strip() or current
            if name is None:
                raise rows.fail(i, f"{roles['sentence']} (task.sentence) is empty in the first row")
            if name != current:
                if name in starts:
                    raise rows.fail(
                        i,
                        f"sentence {short(name)} was already there in {rows.unit} "
                        f"{rows.lines[starts[name]]}, with others between",
                    )
                starts[name], current = i, name
        found = []
        its_groups: dict[str, str | None] = {}
        ends = [*starts.values(), len(words)][1:]
        for (name, start), end in zip(starts.items(), ends, strict=True):
            for i in range(start, end):
                for value, role in ((words[i], "text"), (tags[i], "label")):
                    if not isinstance(value, str) or not value.strip():
                        raise rows.fail(i, f"{roles[role]} (task.{role}) is empty, or no text")
            found.append(
                TaggedWords(
                    tuple(word.strip() for word in words[start:end]),
                    tuple(tag.strip() for tag in tags[start:end]),
                    tuple(rows.lines[start:end]),
                    name,
                )
            )
            its_groups[name] = as_text(groups[start])
        return found, its_groups, [f"{len(found)} sentences, a word per row"]

    def _sentences(
        self, rows: Rows, first: str, second: str, ids: Sequence[str]
    ) -> list[TaggedWords]:
        found = []
        words_in, tags_in = rows.column(first, "task.text"), rows.column(second, "task.label")
        names = [str(n) for n in self.label_names or ()]
        for i, (words, tags) in enumerate(zip(words_in, tags_in, strict=True)):
            its_words = parse_strings(rows, i, words, first, "task.text")
            its_tags = parse_strings(rows, i, tags, second, "task.label", names=names)
            if len(its_words) != len(its_tags):
                raise rows.fail(
                    i, f"{len(its_words)} words ({first}), but {len(its_tags)} tags ({second})"
                )
            if not its_words:
                raise rows.fail(i, f"{first} (task.text) holds no words")
            lines = (rows.lines[i],) * len(its_words)
            found.append(TaggedWords(its_words, its_tags, lines, ids[i]))
        return found

    def _decode(self, found: _Found) -> list[str]:
        """Tags of any scheme become IOB2: one scheme for all files."""
        if not found.tagged:
            return []
        said: list[str] = []
        if self.scheme != "bare":
            files, form = hyphenated(list(found.tagged.values()), sure=self.scheme != "auto")
            found.tagged = dict(zip(found.tagged, files, strict=True))
            said += [form] if form else []
        files = list(found.tagged.values())
        scheme = scheme_of(files) if self.scheme == "auto" else self.scheme
        for split, (path, sentences) in found.tagged.items():
            own = found.groups.get(split, {})
            found.splits[split] = [
                Example(s.id, s.words, None, to_iob2(path, s, scheme), own.get(s.id, s.document))
                for s in sentences
            ]
        if scheme == "iob2":
            return [*said, "tags are IOB2"]
        if scheme == "iob1":
            return [*said, f"tags were read as IOB1: {n_stray(files)} entities start with I-"]
        if scheme == "bare":
            return [*said, "tags are bare types: neighbouring words of one type are one entity"]
        return [*said, "tags are IOBES (BILOU)"]

    def _look_over(self, paths: Mapping[Split, Path], found: _Found) -> None:
        splits = found.splits
        kinds = Counter(
            tag[2:] for part in splits.values() for e in part for tag in _tags(e) if tag != "O"
        )
        listed = None if self.label_names is None else [str(n)[2:] for n in self.label_names]
        check_alike(next(iter(paths.values())), kinds, listed, "type")
        train = splits.get("train")
        if train is not None and not any(tag != "O" for e in train for tag in _tags(e)):
            said = ["holds no entity: nothing could be learned", *found.losses.notes()]
            raise DataError(paths["train"], "; ".join(said))

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        if self.label_names is not None:
            return tuple(str(name) for name in self.label_names)
        types = sorted({tag[1:] for e in train for tag in _tags(e) if tag != "O"})
        return ("O", *(f"{sign}{end}" for end in types for sign in "BI"))

    def settled(self, labels: Sequence[str], items: Sequence[Example]) -> Task:
        return replace(self, label_names=list(labels))


def _unmarked(rows: Rows, label: str) -> list[str]:
    """A note on rows without a field for mentions, as tools write texts that have none.

    Raises DataError for such a row that has a list in a field of its own: a name written wrongly.
    """
    values = rows.column(label, "task.label")
    without = [i for i, value in enumerate(values) if value is None]
    if not without:
        return []
    marked = [row for row, value in zip(rows.rows, values, strict=True) if value is not None]
    for at, name in enumerate(rows.columns):
        if any(row[at] is not None for row in marked):
            continue
        for i in without:
            if isinstance(rows.rows[i][at], list) and rows.rows[i][at]:
                raise rows.fail(i, f"has no {label!r} (task.label), but {name!r}: which is right?")
    return [f"{len(without)} texts have no {label!r}: read as texts without mentions"]


MOST_WIDENED = 0.2
"""Share of mentions that may begin or end inside a word; more, and offsets are wrong."""


def _check_offsets(path: Path, losses: Losses) -> None:
    """Raises DataError where so many mentions cut words that offsets must mean something else."""
    n = losses.counts["widened"]
    if losses.n >= 10 and n > MOST_WIDENED * losses.n:
        raise DataError(
            path,
            f"{n} of {losses.n} mentions begin or end inside a word: do offsets count characters, "
            "from 0, with an exclusive end? (not bytes, words, or the last character)",
        )


def _tags(example: Example) -> tuple[str, ...]:
    assert isinstance(example.target, tuple)
    return example.target


def _from_documents(documents: Sequence[Document], losses: Losses) -> list[Example]:
    examples = []
    for document in documents:
        found = tag_words(document, losses)
        if not found.words:
            raise DataError(document.path, f"{short(document.id)} holds no words", document.line)
        examples.append(
            Example(
                document.id, found.words, None, found.tags, document.document, offsets=found.offsets
            )
        )
    return examples
