"""The pages of the reference, made from the code: everything that there is has its entry."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tarfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import bluestab
from bluestab.core.paths import conf_dir, sweeps_dir
from bluestab.core.reference import knobs_of
from bluestab.report.words import glossary

DOCS = conf_dir().parent / "docs"


@pytest.fixture(scope="module")
def made() -> Iterator[ModuleType]:
    """The module that makes the pages, as docs/conf.py imports it."""
    sys.path.insert(0, str(DOCS))
    try:
        import reference_pages

        yield reference_pages
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def pages(made: ModuleType) -> dict[str, str]:
    return {name: page() for name, page in made.PAGES.items()}


def test_no_row_is_without_a_meaning(pages: dict[str, str]) -> None:
    for name in ("knobs", "techniques", "tasks", "report"):
        assert re.findall(r"^\| .*\|  \|$", pages[name], re.MULTILINE) == [], name
    knobs_of_models = pages["models"].partition("## Knobs of a model")[2]
    assert re.findall(r"^\| .*\|  \|$", knobs_of_models, re.MULTILINE) == []


@pytest.mark.parametrize("kind", ["technique", "task"])
def test_each_plugin_has_an_entry_with_every_knob(kind: str, pages: dict[str, str]) -> None:
    text = pages[f"{kind}s"]
    for file in (conf_dir() / kind).glob("*.yaml"):
        assert f"\n## {file.stem}\n" in text, f"{kind} {file.stem}"
        for knob in knobs_of(file):
            if not re.search(r"_target_|about|search_space|fetch|sha256", knob.path):
                assert f"| `{kind}.{knob.path}` |" in text, f"{file.stem}: {knob.path}"


def test_every_model_sweep_sequence_and_metric_has_an_entry(pages: dict[str, str]) -> None:
    from bluestab.tasks.metric import KNOWN

    for name in KNOWN:
        assert f"\n## {name}\n" in pages["metrics"], name
    for file in (conf_dir() / "model").glob("*.yaml"):
        assert f"| `{file.stem}` |" in pages["models"], file.stem
    for file in (*sweeps_dir().glob("*.yaml"), *(conf_dir() / "sequence").glob("*.yaml")):
        assert f"\n## {file.stem}\n" in pages["sweeps"], file.stem


def test_every_launcher_logger_and_sampler_has_its_knobs(pages: dict[str, str]) -> None:
    for file in (conf_dir() / "hydra/launcher").glob("*.yaml"):
        for knob in knobs_of(file):
            if knob.path not in ("_target_", "backend"):
                assert f"`hydra.launcher.{knob.path}`" in pages["knobs"], f"{file.stem} {knob.path}"
    for file in (conf_dir() / "model/vision").glob("*.yaml"):
        for knob in knobs_of(file):
            assert f"`model.{knob.path}`" in pages["knobs"] or knob.path == "vision"
    for knob in knobs_of(conf_dir() / "sequence/bio_ner.yaml"):
        assert f"`sequence.{knob.path}`" in pages["knobs"]
    assert "`logger.mlflow.uri`" in pages["knobs"]
    assert "`search.sampler." in pages["knobs"]


def test_every_variable_of_the_environment_is_named(pages: dict[str, str]) -> None:
    of_processes = {"BLUESTAB_COMMAND", "BLUESTAB_JOB"}
    sources = [f.read_text(encoding="utf-8") for f in Path(bluestab.__file__).parent.rglob("*.py")]
    found = set(re.findall(r"BLUESTAB_[A-Z]+", "\n".join(sources)))
    for name in found - of_processes:
        assert f"| `{name}` |" in pages["knobs"], name


def test_ranges_are_those_of_the_checks(pages: dict[str, str]) -> None:
    assert r"| `optim.lr` | `${task.recipe.lr}` | a number \> 0 |" in pages["knobs"]
    assert (
        r"| `technique.llrd.decay` | `0.9` | a number in (0, 1\], or null |"
        in (pages["techniques"])
    )


def test_every_verb_and_every_option_is_there(pages: dict[str, str]) -> None:
    from bluestab.cli.app import app

    verbs = {c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands}
    verbs |= {str(group.name) for group in app.registered_groups}
    for verb in verbs:
        assert f"### bluestab {verb.rstrip('_')}\n" in pages["verbs"]
    for option in ("--baseline", "--difference", "--abstain-below", "--secrets", "hours=2"):
        assert option in pages["verbs"]


def test_every_file_of_a_report_is_described(made: ModuleType, pages: dict[str, str]) -> None:
    import reference_files

    from bluestab.report.frames.blurb import GROUPS
    from bluestab.report.frames.summary import SUMMARY_COLUMNS
    from bluestab.report.sections import SECTIONS
    from bluestab.report.write import RUN_COLUMNS

    assert {one.name for one in SECTIONS if one.frame} <= {*reference_files.FRAMES}
    blurb = {*GROUPS, *(task for tasks in GROUPS.values() for task in tasks)}
    for name, (module, function, columns) in reference_files.FRAMES.items():
        frames = import_module(f"bluestab.report.frames.{module}")
        doc = inspect.getdoc(getattr(frames, function)) or ""
        for one in getattr(frames, columns):
            told = reference_files.is_in(doc, one) or glossary.column(one)
            assert told or one in blurb, f"nothing says what {one} of {name}.csv holds"
    for column in (*SUMMARY_COLUMNS, *RUN_COLUMNS):
        said = re.search(rf"^\| `{column}` \| (.+) \|$", pages["report"], re.MULTILINE)
        assert said, f"nothing says what {column} holds"


def test_the_columns_of_a_curve_are_those_of_a_stored_run(pages: dict[str, str]) -> None:
    from bluestab.tasks.metric import KNOWN

    with tarfile.open(Path(__file__).parent / "assets/stores/ncbi64_remedies.tar.gz") as archive:
        name = next(n for n in archive.getnames() if n.endswith("/curve.csv"))
        file = archive.extractfile(name)
        assert file is not None
        columns = file.readline().decode().strip().split(",")
    for column in columns:
        assert column in KNOWN or f"`{re.sub(r'_[0-9]+$', '_1', column)}`" in pages["files"], column


def test_values_of_a_paper_s_sweep_say_whether_they_were_published(pages: dict[str, str]) -> None:
    assert "| `optim.lr` | `2e-5` | published (section 6) |" in pages["sweeps"]
    assert "chosen by us, because RTE has 2490 training items" in pages["sweeps"]


def test_every_exit_code_is_there(pages: dict[str, str]) -> None:
    for code in (0, 1, 2, 130):
        assert f"\n| {code} |" in pages["exit-codes"]
    for name in ("RunsCrashed", "DownloadError", "StorageAway", "DataError", "Interrupted"):
        assert f"| `{name}` |" in pages["exit-codes"], name
    for file in (Path(bluestab.__file__).parent / "cli").glob("*.py"):
        if "typer.Exit(1)" in file.read_text(encoding="utf-8"):
            assert f"`bluestab {file.stem}" in pages["exit-codes"].replace("reproduce", "inference")


def test_public_names_are_documented_and_shown() -> None:
    text = (DOCS / "reference/python.md").read_text(encoding="utf-8")
    for name in bluestab.__all__:
        if name in ("__version__", "figures"):
            continue
        assert getattr(bluestab, name).__doc__, name
        assert re.search(rf"^\.\. auto\w+:: bluestab\.{name}$", text, re.MULTILINE), name
    module = ast.parse(Path(bluestab.figures.__file__).read_text(encoding="utf-8"))
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"figures.{node.name}"


def test_a_card_becomes_a_list(made: ModuleType) -> None:
    import reference_knobs

    said = reference_knobs.card_of("X: one thing.\n\nIdea      a\n          b_c\nNot with  `d_e`.")
    assert said == "X: one thing.\n\n**Idea**\n: a b\\_c\n\n**Not with**\n: `d_e`."
    assert made.grid(("a",), [("x|y",)]) == "| a |\n|---|\n| x\\|y |"
    assert made.grid(("a",), []) == ""


def test_a_dead_link_a_missing_anchor_and_a_foreign_picture_are_found(tmp_path: Path) -> None:
    sys.path.insert(0, str(DOCS))
    try:
        import checks
    finally:
        sys.path.remove(str(DOCS))
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1><a href="https://elsewhere.org">x</a>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">1</a><a href="b.html#gone">2</a><a href="c.html">3</a>'
        '<a href="#">4</a><img src="https://elsewhere.org/x.png">'
    )
    assert checks.problems(tmp_path) == [
        "a.html loads https://elsewhere.org/x.png: only files of the site itself are shown",
        "a.html links to b.html#gone, an anchor that is not there",
        "a.html links to c.html, which is not there",
    ]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """As `make docs` builds it."""
    build = pytest.importorskip("sphinx.cmd.build", reason="the extra 'docs' is missing")
    assert (
        build.main(["-W", "-n", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]) == 0
    )
