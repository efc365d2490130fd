"""Word pieces on disk: the same with and without, whatever happens to the files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bluestab.core.paths import cache_dir as root
from bluestab.data import cache
from bluestab.data.cache import cached, code_of, files, key_of, tokenizer_content
from bluestab.training import tokenise
from tests.support import forked_processes

KEY = "a" * 64
TABLE = pa.table({"input_ids": [[1, 2, 3], [4, 5]], "labels": [0, 1]})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of one test; the hashes of files seen before are forgotten, as in a new process."""
    monkeypatch.setenv("BLUESTAB_CACHE", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache" / "tokens"
    forget()


def forget() -> None:
    from bluestab.data import locate

    locate._sha256.cache_clear()
    tokenise._tokenised.cache_clear()
    code_of.cache_clear()


class Computing:
    """`compute`, counted."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self) -> pa.Table:
        self.n += 1
        return TABLE


def test_computed_once(folder: Path) -> None:
    compute = Computing()
    for _ in range(3):
        assert cached(KEY, compute).equals(TABLE)
    assert compute.n == 1
    (file,) = folder.iterdir()
    assert file.name.startswith(f"{KEY}.")
    assert cached("b" * 64, compute).equals(TABLE)
    assert compute.n == 2


def test_the_table_is_mapped_not_read(folder: Path) -> None:
    cached(KEY, Computing())
    before = pa.total_allocated_bytes()
    found = cached(KEY, Computing())
    assert pa.total_allocated_bytes() == before
    assert found.equals(TABLE)


def test_only_the_owner_may_read(folder: Path) -> None:
    old = os.umask(0)
    try:
        cached(KEY, Computing())
    finally:
        os.umask(old)
    (file,) = folder.iterdir()
    assert [p.stat().st_mode & 0o777 for p in (folder.parent, folder, file)] == [
        0o700,
        0o700,
        0o600,
    ]
    folder.chmod(0o777)
    cached(KEY, Computing())
    assert folder.stat().st_mode & 0o777 == 0o700


def test_without_a_key_nothing_is_kept(folder: Path) -> None:
    assert cached(None, Computing()).equals(TABLE)
    assert not folder.exists()
    assert key_of({"a": 1, "b": None}) is None
    assert key_of({"a": 1}) == key_of({"a": 1}) != key_of({"a": 2})


def damage(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (file,) = folder.iterdir()
        change(file)

    return do


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def foreign(folder: Path) -> None:
    """Files of others that look as if they were ours."""
    import hashlib

    for path in folder.iterdir():
        path.unlink()
    for content in (b"hello", b""):
        name = f"{KEY}.{hashlib.sha256(content).hexdigest()}.arrow"
        (folder / name).write_bytes(content)
    (folder / f"{KEY}.txt").write_text("a note")
    (folder / f"{KEY}.{'0' * 64}.arrow").mkdir()


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "truncated": damage(lambda f: os.truncate(f, f.stat().st_size // 2)),
    "empty": damage(lambda f: f.write_bytes(b"")),
    "first byte": damage(lambda f: flip(f, 0)),
    "middle": damage(lambda f: flip(f, f.stat().st_size // 2)),
    "last byte": damage(lambda f: flip(f, -1)),
    "longer": damage(lambda f: f.write_bytes(f.read_bytes() + b"x")),
    "foreign": foreign,
    "unreadable": damage(lambda f: f.chmod(0)),
    "a folder": damage(lambda f: (f.unlink(), f.mkdir())),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_computed_again(folder: Path, kind: str) -> None:
    compute = Computing()
    cached(KEY, compute)
    DAMAGE[kind](folder)
    forget()
    assert cached(KEY, compute).equals(TABLE)
    assert compute.n == 2 - (kind == "unreadable" and os.geteuid() == 0)
    if kind != "a folder":  # its name is taken; that is all it costs
        forget()
        assert cached(KEY, compute).equals(TABLE)
        assert compute.n <= 2, "it was written again"


@pytest.mark.parametrize("place", ["/dev/null", "/proc/nothing", "a file", "read-only"])
def test_without_a_place_everything_works(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "a file":
        place = str(tmp_path / "file")
        Path(place).write_text("")
    if place == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        (tmp_path / "ro").mkdir(mode=0o500)
        place = str(tmp_path / "ro" / "cache")
    monkeypatch.setenv("BLUESTAB_CACHE", place)
    compute = Computing()
    for _ in range(2):
        assert cached(KEY, compute).equals(TABLE)
    assert compute.n == 2
    assert files() == []


def test_a_folder_of_somebody_else_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(KEY, Computing())
    compute = Computing()
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert cached(KEY, compute).equals(TABLE)
    assert compute.n == 1


def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    compute = Computing()
    for owner, name in (
        (cache.tempfile, "mkstemp"),
        (pa.ipc, "new_stream"),
        (Path, "replace"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            assert cached(KEY, compute).equals(TABLE)
        assert list(folder.iterdir()) == [], "what was begun is removed"
    assert compute.n == 3


PROCESS = """
import os, sys, time
from pathlib import Path
import pyarrow as pa
from bluestab.data.cache import cached
table = pa.table({"input_ids": [[i, 2, 3] for i in range(20000)]})
go = Path(sys.argv[1])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
assert cached("a" * 64, lambda: table).equals(table)
"""


def test_sixteen_processes_at_once(folder: Path, tmp_path: Path) -> None:
    forked_processes.run_at_once(PROCESS, 16, go=tmp_path / "go", cwd=tmp_path)
    assert len(list(folder.iterdir())) == 1, "they wrote the same, and left nothing else"


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("BLUESTAB_CACHE", "~/own")
    assert root() == Path("/home/x/own")
    monkeypatch.setenv("BLUESTAB_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/big/cache")
    assert root() == Path("/big/cache/bluestab")
    for value in ("relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert root() == Path("/home/x/.cache/bluestab")


# --- what the key is made of -----------------------------------------------------------------


def tokenised(run: Any, split: str = "train", **changed: Any) -> Any:
    """The word pieces of a split, as in a new process."""
    forget()
    task = replace(run.data.task, **changed.pop("task", {}))
    examples = changed.pop("examples", run.data.splits[split])
    return tokenise.tokenised(replace(run.data, task=task, **changed), examples, run.model)[0]


@pytest.mark.parametrize("task", ["ncbi_disease", "gad", "biosses"])
def test_the_same_with_and_without(
    make_run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    run = make_run(f"task={task}", "model=tiny")
    first = tokenised(run)
    second = tokenised(run)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setenv("BLUESTAB_CACHE", "/dev/null")
    without = tokenised(run)
    assert first.data.table.equals(second.data.table)
    assert first.data.table.equals(without.data.table)
    assert first.features == second.features == without.features
    assert first[:] == second[:] == without[:]


def test_the_second_process_does_not_tokenise(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("task=gad", "model=tiny")
    first = tokenised(run)[:]

    def never(*_: Any) -> Any:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(type(run.data.task), "encode", never)
    assert tokenised(run)[:] == first


@pytest.mark.parametrize(
    "changed",
    [
        {"task": {"max_length": 7}},
        {"split": "test"},
        {"labels": ("1", "0")},
        {"task": {"text": "another column"}},
    ],
    ids=str,
)
def test_what_changes_word_pieces_changes_the_key(
    make_run: Callable[..., Any], folder: Path, changed: dict[str, Any]
) -> None:
    run = make_run("task=gad", "model=tiny")
    tokenised(run)
    tokenised(run, **changed)
    assert len(list(folder.iterdir())) == 2


def test_what_does_not_matter_does_not_change_the_key(
    make_run: Callable[..., Any], folder: Path
) -> None:
    run = make_run("task=gad", "model=tiny")
    tokenised(run)
    tokenised(run, task={"name": "other", "failed_below": 0.9, "metric": "f1", "train_size": 24})
    assert len(list(folder.iterdir())) == 1


def test_versions_and_code_are_in_the_key(
    make_run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("task=gad", "model=tiny")
    tokenised(run)
    for n, (name, value) in enumerate(
        [
            ("versions", lambda: {"tokenizers": "0", "transformers": "0"}),
            ("cache.code_of", lambda _: "other code"),
            ("cache.tokenizer_content", lambda _: "other tokenizer"),
        ]
    ):
        with monkeypatch.context() as patch:
            value.cache_clear = lambda: None  # type: ignore[attr-defined]
            patch.setattr(f"bluestab.training.tokenise.{name}", value)
            tokenise._tokenised.cache_clear()
            tokenise.tokenised(run.data, run.data.splits["train"], run.model)
        assert len(list(folder.iterdir())) == 2 + n, name


def test_a_tokenizer_is_known_by_its_content() -> None:
    from transformers import BertTokenizer

    def make(words: str, **kwargs: Any) -> Any:
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
        return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, **kwargs)

    one, same = make("abc"), make("abc", name_or_path="elsewhere")
    content = tokenizer_content(one)
    one(["a b c"], truncation=True, max_length=3, padding=True)
    assert tokenizer_content(one) == content == tokenizer_content(same), "its state is no part"
    lower, upper = (make("abc", do_lower_case=value) for value in (True, False))
    names = make("abc", model_input_names=["input_ids"])
    found = [content, *(tokenizer_content(t) for t in (make("abd"), upper, names))]
    assert len(set(found)) == 4
    assert tokenizer_content(lower) == content
    assert tokenizer_content(object()) is None


def test_code_is_known_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_base.py").write_text("class Base:\n    a = 1\n")
    (tmp_path / "own_task.py").write_text(
        "from abc import ABC\nfrom own_base import Base\n\n\nclass Own(Base, ABC):\n    b = 1\n"
    )
    for file in tmp_path.glob("own_*.py"):
        os.utime(file, (0, 0))
    import own_task  # type: ignore[import-not-found]

    first = code_of(own_task.Own)
    assert first is not None
    for name in ("own_task.py", "own_base.py"):
        file = tmp_path / name
        file.write_text(file.read_text() + "# changed\n")
        code_of.cache_clear()
        assert code_of(own_task.Own) is None, "what is loaded may be the old one"
        os.utime(file, (0, 0))
        code_of.cache_clear()
        second = code_of(own_task.Own)
        assert second not in (first, None)
        first = second
    assert code_of(type("Made", (), {"__module__": "nowhere"})) is None
    for module in ("own_task", "own_base"):
        del sys.modules[module]


# --- the verbs -------------------------------------------------------------------------------


def test_size_and_clear(cli: Callable[..., Any], folder: Path) -> None:
    assert f"{folder.parent}: 0 files, 0 B" in cli("cache", "size").out
    cached(KEY, Computing())
    (folder / ".unfinished").write_bytes(b"x" * 2000)
    said = cli("cache", "size")
    assert said.code == 0
    assert "2 files, " in said.out
    said = cli("cache", "clear")
    assert (said.code, said.err) == (0, "")
    assert "removed 2 files, " in said.out
    assert files() == []
    (folder / "a folder").mkdir()
    said = cli("cache", "clear")
    assert said.code == 1
    assert "cannot be removed" in said.out


def test_a_run_works_without_a_cache(cli: Callable[..., Any]) -> None:
    anything = [f"task.sha256.{split}=null" for split in ("train", "validation", "test")]
    run = ("run", "task=gad", "model=tiny", *anything, "optim.steps=2", "device=cpu")
    said = cli(*run, BLUESTAB_CACHE="/dev/null")
    assert said.code == 0, said.err
    (without,) = Path("runs").glob("*/record.json")
    said = cli(*run, "store=other")
    (kept,) = Path("other").glob("*/record.json")
    from bluestab.store.store import parse_record

    assert parse_record(kept).result == parse_record(without).result
