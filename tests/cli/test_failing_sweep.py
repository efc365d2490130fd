"""A sweep in which runs crash, diverge or are interrupted: what is recorded, said and run again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.refusals import GAD, RUN, SWEEP, refused

Say = Callable[..., Any]

OWN = """
from pathlib import Path

from bluestab.techniques.base import Technique
from bluestab.core.types import StepOutput


class Crashing(Technique):
    def __init__(self, *, silent):
        self.silent = silent

    def wrap_step(self, step, built):
        def crash(batch):
            if not Path("repaired").exists():
                assert not self.silent  # says nothing at all
                raise RuntimeError("out of patience\\nand a second line")
            return step(batch)

        return crash


class Diverging(Technique):
    def __init__(self):
        self.taken = 0

    def wrap_step(self, step, built):
        def diverge(batch):
            self.taken += 1
            output = step(batch)
            factor = float("nan") if self.taken == 2 else 1.0
            return StepOutput(output.loss * factor, output.logits)

        return diverge
"""


@pytest.fixture
def own_techniques(cli: Say) -> None:
    Path("conf/technique").mkdir(parents=True)
    Path("own_techniques.py").write_text(OWN)
    for name, line in {
        "loud": "{_target_: own_techniques.Crashing, silent: false}",
        "silent": "{_target_: own_techniques.Crashing, silent: true}",
        "diverging": "{_target_: own_techniques.Diverging}",
    }.items():
        Path(f"conf/technique/{name}.yaml").write_text(f"# {name}\n{name}: {line}\n")


@pytest.mark.usefixtures("own_techniques")
def test_own_techniques_need_permission(cli: Say) -> None:
    refused(cli, (*SWEEP, "technique=none,loud"), "BLUESTAB_ALLOW=own_techniques", "1 of 2 runs")
    said = cli("check", *GAD, "technique=loud", BLUESTAB_ALLOW="own_techniques")
    assert said.code == 0


@pytest.mark.usefixtures("own_techniques")
def test_crashed_and_diverged_runs(cli: Say) -> None:
    """Crashes stop nothing and are tried again; a divergence is a result that counts as failed."""
    arguments = (*GAD, "optim.steps=3", "technique=loud,silent,diverging,none", "sweep.seeds=1")
    sweep = ("run", "-m", "sweep.name=mixed", *arguments)
    said = cli(*sweep, BLUESTAB_ALLOW="own_techniques")
    assert said.code == 1
    assert "Traceback" not in said.err
    assert "2 of 4 runs crashed" in said.err
    assert "RuntimeError: out of patience" in said.err
    assert "AssertionError" in said.err
    lines = [line.strip() for line in said.err.splitlines()]
    again = [line.removeprefix("again: ") for line in lines if line.startswith("again: ")]
    logs = [Path(line.removeprefix("log:").strip()) for line in lines if line.startswith("log:")]
    assert len(again) == len(logs) == 2
    assert "and a second line" in logs[0].read_text()
    assert "Traceback" in logs[1].read_text()

    status = cli("status").out
    assert "1 done, 1 diverged, 0 running, 2 crashed, 0 missing" in status
    assert "to go on: bluestab " + shlex.join(sweep) in status
    manifest = json.loads(Path("runs/sweeps/mixed.json").read_text())
    keys = {run["overrides"][-2]: run["key"] for run in manifest["runs"]}
    diverged = json.loads(Path("runs", keys["technique=diverging"], "record.json").read_text())
    assert diverged["result"]["status"] == "diverged"
    assert diverged["result"]["steps"] == 1
    assert diverged["result"]["error"]["type"] == "Diverged"

    # the printed command makes just that run; a crash of a single run exits 1 as well
    assert cli(*shlex.split(again[0])[1:], BLUESTAB_ALLOW="own_techniques").code == 1
    Path("repaired").touch()
    alone = cli(*shlex.split(again[0])[1:], BLUESTAB_ALLOW="own_techniques")
    assert (alone.code, alone.err) == (0, "")
    assert Path("runs", keys["technique=loud"], "record.json").is_file()

    said = cli(*sweep, BLUESTAB_ALLOW="own_techniques")
    assert (said.code, said.err) == (0, "")
    assert "4 runs, 3 already there" in said.out
    assert "diverging" in said.out
    assert "100%" in said.out
    assert "3 done, 1 diverged, 0 running, 0 crashed, 0 missing" in cli("status").out
    assert json.loads(Path("runs", keys["technique=diverging"], "record.json").read_text()) == (
        diverged
    ), "results are data: not tried again"
    assert {path.name for path in Path("report/mixed").iterdir()} >= {"runs.csv", "summary.csv"}

    refused(cli, ("report", "--baseline", "non"), "'non'", "did you mean 'none'")
    refused(cli, ("status", "--sweep", "nope"), "no sweep 'nope'", "it has: mixed")
    Path("file").write_text("")
    said = cli("report", "--out", "file")
    assert said.code == 2
    assert "bluestab: file cannot be written" in said.err
    assert cli(*sweep, BLUESTAB_ALLOW="own_techniques").code == 0, "nothing is left to run"

    # what somebody damaged is named, with what to do, and left out of tables
    record = Path("runs", keys["technique=none"], "record.json")
    whole = record.read_text()
    record.write_text('{"schema": 1, "res')
    said = cli("run", *GAD, "optim.steps=3")
    assert said.code == 0
    assert f"the record of run {keys['technique=none']} was damaged: kept as" in said.out
    assert json.loads(record.read_text())["result"] == json.loads(whole)["result"]
    kept = Path("runs", ".damaged", f"{keys['technique=none']}.1", "record.json")
    assert kept.read_text() == '{"schema": 1, "res'
    for damage in (
        "[]",
        '{"schema": 1, "result": {}, "measured": {}}',
        whole.replace("gad", "gab"),
    ):
        record.write_text(damage)
        for verb in ("report", "status"):
            said = cli(verb)
            assert (said.code, said.err) == (0, "")
            assert f"damaged: {record} is damaged" in said.out
            assert "bluestab store verify" in said.out
        assert "2 done, 1 diverged, 0 running, 0 crashed, 0 missing, 1 damaged" in said.out
        assert "to go on: bluestab " in said.out
        runs = Path("report/mixed/runs.csv").read_text()
        assert keys["technique=silent"] in runs
        assert keys["technique=none"] not in runs
    record.write_text(whole.replace('"schema": 2', '"schema": 99'))
    refused(cli, ("report",), "schema 99", "update bluestab")
    record.write_text(whole)
    manifest_file = Path("runs/sweeps/mixed.json")
    for damage in ('{"name', "[]", '{"name": "mixed", "command": "", "runs": [{}]}'):
        manifest_file.write_text(damage)
        refused(cli, ("status",), str(manifest_file), "is damaged", "command again")


def test_ctrl_c(cli: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bluestab.training.execute.execute_one", interrupted)
    for verb in (RUN, SWEEP):
        said = cli(*verb)
        assert said.code == 130
        assert "interrupted" in said.err
        assert "Traceback" not in said.err
