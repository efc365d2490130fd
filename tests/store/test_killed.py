"""Verbs that write, killed before and in the middle of every single write, then repeated.

Nothing is lost, no half of a file has its final name, and what there is in the end equals what a
verb leaves that nobody disturbed. How many kills that were is printed (`make test-slow
PYTEST_ARGS=-s`); sweeps, searches and SLURM's tasks are killed in `tests/sweeps` and `tests/slurm`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from bluestab.core.errors import BluestabError, ConfigError
from bluestab.inference import stream
from bluestab.store import cleaning, index
from bluestab.store.gc import orphans, remove
from bluestab.store.merge import merge
from bluestab.store.processes import owner
from bluestab.store.records import to_json
from bluestab.store.store import Store
from bluestab.store.verify import problems
from bluestab.testing.corpora import ANY_FILE
from tests.conftest import DEAD
from tests.inference.formats.test_formats import capitals, tagger
from tests.store.test_cleaning import old_store
from tests.support import simulated_search
from tests.support.killed_anywhere import KILLS, killed_before
from tests.support.stored_runs import put, run, sweep, tree

Make = Callable[[Path], Path]
Do = Callable[[Path], object]


def two_stores(folder: Path) -> Path:
    into, source = Store(folder / "into"), Store(folder / "source")
    put(into, run(0))
    put(into, run(3, "crashed"))
    sweep(into, "s", run(0))
    damaged = put(into, run(4))
    (damaged / "record.json").write_text("{")
    for record in (run(0), run(1), run(3), run(4), run(5, "crashed")):
        put(source, record)
    sweep(source, "t", run(1), run(3))
    sweep(source, "s", run(0), run(1))
    return folder


def merged(folder: Path) -> None:
    merge(Store(folder / "into"), Store(folder / "source"))


def leftovers(folder: Path) -> Path:
    store = Store(folder / "runs")
    put(store, run(0))
    put(store, run(1, "crashed"))
    shutil.copytree(store.crash_folder(run(1).key), folder / "saved")
    put(store, run(1))
    (folder / "saved").rename(store.crash_folder(run(1).key))
    sweep(store, "s", run(0), run(1))
    gone = f"{owner().rpartition('.')[0]}.{DEAD}"
    for name in (f".work/{run(2).key}.{gone}", f".resume/{run(0).key}"):
        (store.root / name / "inside").mkdir(parents=True)
        (store.root / name / "inside" / "weights").write_bytes(b"12345")
    (store.root / "sweeps" / f".s.json.{gone}").write_text("x")
    return folder


def collected(folder: Path) -> None:
    for orphan in orphans(Store(folder / "runs")):
        assert remove(orphan) is None


def secrets(folder: Path) -> Path:
    old_store(folder / "runs")
    return folder


def cleaned(folder: Path) -> None:
    assert all(said is None for _, said in cleaning.clean(Store(folder / "runs")))


def runs_alone(folder: Path) -> Path:
    for seed in range(3):
        put(Store(folder / "runs"), run(seed))
    return folder


def indexed(folder: Path) -> None:
    index.WORTH = 1
    assert len(index.contents(Store(folder / "runs")).statuses) == 3


def text(folder: Path) -> Path:
    (folder / "in.txt").write_text("".join(f"The Gene{i} and more\n" for i in range(9)))
    return folder


def predicted(folder: Path) -> None:
    stream.CHUNK_ITEMS = 2
    try:
        form = tagger(folder / "in.txt", "text")
        stream.predict_file(form, capitals, folder / "out.txt", {})
    except ConfigError as error:
        if "is there already" not in str(error):
            raise


def a_record(folder: Path) -> Path:
    put(Store(folder / "runs"), run(1, "crashed"))
    return folder


def recorded(folder: Path) -> None:
    store = Store(folder / "runs")
    if not store.has(run(1).key):
        put(store, run(1))
    if store.manifest(None) is None:
        sweep(store, "s", run(1))


def spoken(*words: str) -> Do:
    """The verb as it is typed, in the folder; what is there already is refused."""

    def do(folder: Path) -> None:
        from bluestab.cli.app import app

        with chdir(folder), redirect_stdout(StringIO()):
            try:
                app(list(words), standalone_mode=False)
            except BluestabError as error:
                if "is there already" not in str(error) and "of that name" not in str(error):
                    raise

    return do


def a_sweep(folder: Path) -> Path:
    """Three arms' worth of runs, in two stores."""
    for name in ("runs", "others"):
        store = Store(folder / name)
        records = [run(seed) for seed in range(3)]
        for record in records:
            put(store, record)
        sweep(store, "s", *records)
    return folder


def a_search(folder: Path) -> Path:
    from bluestab.sweeps.search.pool import see_through
    from bluestab.sweeps.search.saved import write_search_file

    search = simulated_search.plan(folder / "runs", n_trials=4, seeds=1)
    simulated_search.begin(search)
    write_search_file(search)
    see_through(search, [None], simulated_search.execute)
    return folder


def own_task(folder: Path) -> Path:
    rows = "".join(f"a gene{i} of it,{'yes' if i % 2 else 'no'}\n" for i in range(12))
    for split in ("train", "validation", "test"):
        (folder / f"{split}.csv").write_text(f"text,label\n{rows}".replace("of it", split))
    return folder


def inspected(folder: Path) -> None:
    """The page and the saved task; a name that is taken is refused, with the page written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLUESTAB_CONF", str(folder / "conf"))
        spoken(
            *("inspect", "task=classification", "task.train=train.csv"),
            *("task.validation=validation.csv", "task.test=test.csv", "--html", "page.html"),
            *("--save-as", "mine"),
        )(folder)


def documents(folder: Path) -> Path:
    (folder / "in").mkdir()
    for n in range(3):
        (folder / "in" / f"{n}.txt").write_text(f"The Gene{n} and more\n")
    return folder


def annotated(folder: Path) -> None:
    from bluestab.inference.brat import predict_folder

    task = tagger(folder / "in" / "0.txt", "text").task
    try:
        predict_folder(folder / "in", task, ["Gene"], capitals, folder / "out", {})
    except ConfigError as error:
        if "is there already" not in str(error):
            raise


def trained(*more: str, seeds: int = 1) -> Make:
    def make(folder: Path) -> Path:
        from bluestab.core.config import compose, resolved
        from bluestab.training.check import check
        from tests.store.test_artefacts import SHORT
        from tests.training.test_execute import done

        for seed in range(seeds):
            given = ["task=gad", "model=tiny", *SHORT, "seeds.init=0", f"seed={seed}", *more]
            cfg = resolved(compose([*ANY_FILE, f"store={folder / 'runs'}", *given]))
            done(check(cfg), folder / "runs")
        return folder

    return make


def of_the_run(*words: str) -> Do:
    """A verb about the first run of the store, on one thread: those that OpenMP keeps for the next
    time are not there in a child, which waits for them for ever."""

    def do(folder: Path) -> None:
        store = Store(folder / "runs")
        first = min(store.keys(), key=lambda key: store.read(key).measured["names"]["seed"])
        verb, *rest = words
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bluestab.inference.predictor.cores", lambda: 1)
            spoken(verb, first, *rest, "--store", "runs", "--device", "cpu")(folder)

    return do


LIGHT: Mapping[str, tuple[Make, Do]] = {
    "merge": (two_stores, merged),
    "gc": (leftovers, collected),
    "gc --secrets": (secrets, cleaned),
    "index": (runs_alone, indexed),
    "predict": (text, predicted),
    "predict --format brat": (documents, annotated),
    "record": (a_record, recorded),
    "compare": (a_sweep, spoken("compare", "runs", "others", "--out", "table.csv")),
}
"""Verbs that take milliseconds: each way to kill before each write."""

HEAVY: Mapping[str, tuple[Make, Do]] = {
    "report": (a_sweep, spoken("report", "runs", "--out", "out")),
    "search": (a_search, spoken("search", "runs", "--out", "out")),
    "inspect": (own_task, inspected),
    "export": (trained("keep=last"), of_the_run("export", "--out", "out")),
    "export, trained again": (trained(), of_the_run("export", "--out", "out")),
    "soup": (trained("keep=last", seeds=2), of_the_run("soup")),
    "reproduce": (trained(), of_the_run("reproduce", "--keep-in", "kept")),
}
"""Verbs that take seconds: the ways to kill take turns."""

TRAINED = ("soup", "reproduce")
"""Verbs that record a run: when, how long and its log are of the day."""

VERBS = {**LIGHT, **HEAVY}
STORES = ("runs", "into", "kept")
DERIVED = (".index.parquet", ".lock", "attempts")
NUMBER = re.compile(r"\.damaged/\w+\.\d+/")
TIME = re.compile(rb'"written": "[^"]*"')


def stores(folder: Path) -> list[Store]:
    return [Store(folder / name) for name in STORES if (folder / name).is_dir()]


def files(folder: Path, verb: str) -> dict[str, bytes]:
    """Every file, without what varies: numbers, times, and of what is trained its log."""
    return {
        NUMBER.sub(".damaged/", name): _lasting(name, data)
        if verb in TRAINED
        else TIME.sub(b"", data)
        for name, data in tree(folder).items()
        if not name.endswith(DERIVED)
    }


def _lasting(name: str, data: bytes) -> bytes:
    if name.endswith("log.txt"):
        return b""
    if name.endswith("record.json") and data.startswith(b"{"):
        return to_json(json.loads(data)["result"]).encode()
    return data


def tidied(folder: Path, verb: str) -> dict[str, bytes]:
    """Every file, once gc has taken away what the dead left."""
    for store in stores(folder):
        for orphan in orphans(store):
            remove(orphan)
    return files(folder, verb)


def wrong_with(folder: Path) -> list[str]:
    return [said for store in stores(folder) for said in problems(store)]


def is_final(name: str) -> bool:
    """Whether it is the name of a file that readers look at."""
    hidden = any(part.startswith(".") for part in name.split("/") if part != ".crashed")
    return not hidden and ".partial" not in name


CASES = [
    ("merge", 9, "KILL"),
    ("predict", 5, "half"),
    *(
        pytest.param(v, 1, how, marks=pytest.mark.slow)
        for v in LIGHT
        for how in KILLS
        if (v, how) != ("gc", "half")  # it writes no bytes
    ),
    *(pytest.param(v, 1, "in turn", marks=pytest.mark.slow) for v in HEAVY),
]


@pytest.mark.parametrize(("verb", "step", "how"), CASES)
def test_killed_before_every_write_and_repeated(
    tmp_path: Path, small: Path, verb: str, step: int, how: str
) -> None:
    make, do = VERBS[verb]
    pristine, folder = tmp_path / "pristine", tmp_path / "again"  # one place: some files name it
    pristine.mkdir()
    make(pristine)
    shutil.copytree(pristine, folder)
    before = files(folder, verb)
    do(folder)
    expected, damage, kills = tidied(folder, verb), wrong_with(folder), 0
    for n in range(0, 10_000, step):
        shutil.rmtree(folder)
        shutil.copytree(pristine, folder)
        way = KILLS[n % len(KILLS)] if how == "in turn" else how
        if not killed_before(lambda: do(folder), n, way):
            if way == "half" != how:
                continue  # nothing more is written, but something renamed
            break
        kills += 1
        for name, data in files(folder, verb).items():
            if is_final(name):
                assert data in (before.get(name), expected.get(name)), f"{n}: half of {name}"
        do(folder)
        assert tidied(folder, verb) == expected, n
        assert wrong_with(folder) == damage, n
    print(f"{verb}, {how}: {kills} kills, 0 lost, 0 different")
    assert kills > 0
