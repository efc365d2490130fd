"""No secret is written, in whatever form it is given; those of older stores are taken out."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import open_dict

from bluestab.core.config import compose, resolved
from bluestab.store import cleaning, files
from bluestab.store.artefacts import config_text, logging_to, write_config
from bluestab.store.records import to_json, to_text
from bluestab.store.store import Store, parse_manifest
from bluestab.store.verify import problems
from bluestab.sweeps.slurm.submission import write_orders
from tests.support.stored_runs import put, run, sweep, tree

Make = Callable[..., Any]

FORMS = (
    "http://bob:s3cret@host/a", "http://bob:s3/cret@host/a", "http://bob:s3@cret@host/a",
    "https://s3cret@host/a", "https://s3cret:x-oauth-basic@host/a", "https://host/a?password=s3cret",
    "https://host/a?token=s3cret", "https://host/a?x=1&api_key=s3cret", "https://host/a?sig=s3cret",
    "postgresql://me:s3cret@host/db", "host=h password=s3cret", "https://host/a#access_token=s3cret",
)  # fmt: skip
SIGNS = (b"s3cret", b"s3/cret", b"s3@cret", b"cret@")


def holds_secret(folder: Path) -> list[str]:
    """Files below a folder in which one of the planted secrets is."""
    return [name for name, data in tree(folder).items() if any(sign in data for sign in SIGNS)]


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(form, marks=() if i % 4 == 0 else pytest.mark.more)
        for i, form in enumerate(FORMS)
    ],
)
def test_a_planted_secret_is_in_no_file_and_not_on_the_terminal(
    form: str, make_sweep: Make, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    """Config, manifest, record, crash, log, what SLURM's tasks are told, page, terminal."""
    monkeypatch.setenv("BLUESTAB_COMMAND", f"bluestab run -m 'logger.own.uri={form}'")
    monkeypatch.setenv("BLUESTAB_URI", form)
    monkeypatch.setenv("BLUESTAB_API_KEY", "s3cret")
    monkeypatch.setenv("OWN", form)
    planned = make_sweep(seeds=2)
    store, root = planned.store, planned.store.root
    composed = compose(["logger=csv"])
    with open_dict(composed):
        composed.logger.own = {"uri": "${oc.env:OWN}", "literal": form, "api_key": "s3cret"}
    logger = {k: v for k, v in resolved(composed).items() if k in ("logger", "references")}
    runs = [
        replace(
            one,
            run=replace(one.run, cfg={**one.run.cfg, **logger}),
            overrides=(*one.overrides, f"logger.own.uri={form}"),
        )
        for one in planned.runs
    ]
    planned = replace(planned, runs=tuple(runs))
    store.make_writable()
    store.write_manifest("s", planned.manifest())
    write_orders(store, "s", runs, tasks=1, launcher={"setup": [f"U={form}"]}, command=form)
    records = [run(0), run(1, "crashed")]
    from bluestab.core.provenance import command_line
    from bluestab.training.recording import crash_result

    for record in records:
        with store.building(record.key) as work:
            write_config(work / "config.yaml", runs[0].run.cfg)
            with logging_to(work / "log.txt"):
                logging.getLogger("bluestab").warning("cannot reach %s", form)
                try:
                    raise OSError(form)
                except OSError:
                    logging.getLogger("bluestab").exception("failed")
            measured = {**record.measured, "command": command_line()}
            result = dict(record.result)
            if record.status == "crashed":
                result["error"] = crash_result(runs[0].run, OSError(form))["error"]
                store.keep_crash(work, replace(record, result=result, measured=measured))
            else:
                put_predictions(work, record)
                store.finish(work, replace(record, measured=measured))
    sweep(store, "t", *records)
    for verb in (
        ["report", str(root), "--out", "out"],
        ["status", str(root)],
        ["store", "verify", str(root)],
    ):
        said = cli(*verb)
        assert not any(sign.decode() in said.out + said.err for sign in SIGNS), said
    assert "0 problems" in said.out
    assert holds_secret(Path.cwd()) == []
    config = (store.folder(records[0].key) / "config.yaml").read_text()
    assert "${oc.env:OWN}" in config


def put_predictions(work: Path, record: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {"id": [str(i) for i in range(2 * record.result["items"]["test"])]}
    pq.write_table(pa.table(rows), work / "predictions.parquet")


def old_store(root: Path) -> Store:
    """As older versions wrote it: passwords in five files of a run, and in those of its sweep."""
    store = Store(root)
    for record, form in ((run(0), FORMS[0]), (run(1), FORMS[5]), (run(2, "crashed"), FORMS[2])):
        measured = {**record.measured, "command": f"bluestab run logger.mlflow.uri={form}"}
        folder = put(
            store, replace(record, measured=measured), log=f"a line\ncannot reach {form}\n"
        )
        node = {"logger": {"mlflow": {"uri": form}}, "optim": {"lr": 2e-5}, "keep": "none"}
        (folder / "config.yaml").write_text(config_text(node))
        record = replace(record, measured={**measured, "files": files_of(folder)})
        (folder / "record.json").write_text(to_text(record))
    sweep(store, "s", run(0), run(1), run(2, "crashed"))
    manifest = json.loads((root / "sweeps/s.json").read_text())
    manifest["command"] = f"bluestab run -m 'logger.mlflow.uri={FORMS[0]}'"
    manifest["runs"][0]["overrides"] = [f"logger.mlflow.uri={FORMS[0]}"]
    (root / "sweeps/s.json").write_text(to_json(manifest))
    (root / ".slurm" / "s.1").mkdir(parents=True)
    orders = {"command": f"x {FORMS[7]}", "environment": {"BLUESTAB_TOKEN": "s3cret"}}
    (root / ".slurm" / "s.1" / "orders.json").write_text(json.dumps(orders))
    (root / ".index.parquet").write_bytes(b"holds a copy: s3cret")
    return store


def files_of(folder: Path) -> dict[str, str]:
    return {name: files.digest_of(path) for name, path in files.files_below(folder).items()}


def test_secrets_of_older_stores_are_named_and_taken_out(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    store = old_store(tmp_path / "store")
    before = {key: store.read(key) for key in sorted(store.keys())}
    named = [one for one in problems(store) if "holds a password, token or key" in one]
    assert len(named) == 11
    assert "s3cret" not in "".join(problems(store))
    said = cli("store", "gc", "--secrets", "--dry-run", str(store.root))
    assert "11 files with passwords, tokens or keys would be cleaned" in said.out
    assert len(holds_secret(store.root)) == 12
    assert parse_manifest(store.root / "sweeps/s.json")["command"].endswith("bob:***@host/a'")
    said = cli("store", "gc", "--secrets", str(store.root))
    assert said.code == 0, said
    assert "11 files with passwords, tokens or keys cleaned" in said.out
    assert holds_secret(store.root) == []
    assert list(problems(store)) == []
    after = {key: store.read(key) for key in sorted(store.keys())}
    assert after.keys() == before.keys()
    assert all(after[key].result == before[key].result for key in before)
    assert not [path for path in store.root.rglob(".*") if path.is_file()], "nothing aside is left"
    whole = tree(store.root)
    assert list(cleaning.clean(store)) == []
    assert tree(store.root) == whole


def test_cleaning_that_dies_anywhere_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any write, then repeated: the files are those of one that was not killed."""
    expected_store = old_store(tmp_path / "whole")
    list(cleaning.clean(expected_store))
    expected = {name: digest(data) for name, data in tree(expected_store.root).items()}
    written: list[Path] = []
    real = files.write_text

    def dying(path: Path, text: str) -> None:
        if len(written) == n:
            raise KeyboardInterrupt
        written.append(path)
        real(path, text)

    monkeypatch.setattr(cleaning, "write_text", dying)
    for n in range(11):
        written.clear()
        store = old_store(tmp_path / f"{n}")
        with pytest.raises(KeyboardInterrupt):
            list(cleaning.clean(store))
        n = -1
        list(cleaning.clean(store))
        found = {name: digest(data) for name, data in tree(store.root).items()}
        assert {k: v for k, v in found.items() if k != "sweeps/s.json"} == {
            k: v
            for k, v in expected.items()
            if k != "sweeps/s.json"  # it holds a time
        }
        assert list(problems(store)) == []
        assert holds_secret(store.root) == []


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_damaged_file_stays_damaged(tmp_path: Path) -> None:
    """Cleaning must not make a changed file look as if it were what the run wrote."""
    store = old_store(tmp_path / "store")
    log = store.folder(run(0).key) / "log.txt"
    log.write_text(log.read_text() + "changed\n")
    list(cleaning.clean(store))
    assert holds_secret(store.root) == []
    (found,) = problems(store)
    assert "log.txt is not what was written" in found


def test_what_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = old_store(tmp_path / "store")

    def refused(*_: Any) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(cleaning, "write_text", refused)
    found = list(cleaning.clean(store))
    assert len(found) == 11
    assert all(
        said is not None and "cannot be cleaned (Permission denied)" in said for _, said in found
    )
