"""Names of files and columns that are no plain words: typed as they are, or the line that works."""

from __future__ import annotations

import random
import shlex
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from bluestab.cli.names import typed
from bluestab.core.config import compose, quoted, resolved
from bluestab.core.errors import ConfigError
from tests.support.own_files import rows
from tests.support.refusals import refused

Say = Callable[..., Any]
ODD = (
    "Export (1).csv", "Größe.csv", "a%b@c#d.csv", "données.csv", "it's.csv", "my data.csv",
    "新加卷/data.csv", " lead.csv", "[final].csv", "a:b.csv", "a\\b.csv", "cost$5.csv",
    "v+1*2?.csv", "x{1}.csv", "~draft.csv", "007.csv", "2023-09-16.csv", "données=v2,final.csv",
    "${oc.env:HOME}.csv", 'say "yes".csv', "trail.csv ", "a,b.csv", "a;b&c|d<e>.csv", "1e5", "123",
    "true", "\\${x}\\", "!`x`.csv", "-x.csv", "ß'\"\\'.csv",
)  # fmt: skip
INSPECT = ("inspect", "model=tiny", "task=classification")


def value_of(argument: str) -> Any:
    return resolved(compose([argument, "task=classification", "model=tiny"]))["task"]


def some(names: Iterable[str]) -> list[Any]:
    """The first few among the quick tests, each composes a config."""
    every = list(names)
    return [*every[:6], *(pytest.param(name, marks=pytest.mark.slow) for name in every[6:])]


@pytest.mark.parametrize("name", some(ODD))
def test_a_file_that_is_there_is_meant(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(rows())
    for multirun in (False, True):
        (argument,) = typed([f"task.train={name}"], multirun=multirun)
        assert value_of(argument)["train"] == name


@pytest.mark.parametrize("name", some([n for n in ODD if n.strip() == n and "," not in n]))
def test_quotes_that_a_person_typed_stay(name: str) -> None:
    for mark in "'\"":
        argument = f"task.train={quoted(name, mark)}"
        assert typed([argument], multirun=False) == [argument]
        assert value_of(argument)["train"] == name


COLUMNS = {
    "größe": "größe", "size (mm)": "size (mm)", "x{1}": "x{1}", "p=0.05": "p=0.05", "it's": "it's",
    "50%": "50%", "~x": "~x", "true": "true", "1e5": "1e5", "nan": "nan", "新": "新", "3": 3,
    "{a:b}": "{a:b}", "\\${x}": "\\${x}",
    "null": None, "gold label": "gold label", "'size'": "size", '"größe, mm"': "größe, mm",
    "[a,größe]": ["a", "größe"], "[größe (mm),'a, b',c]": ["größe (mm)", "a, b", "c"],
}  # fmt: skip


@pytest.mark.parametrize("text", some(COLUMNS))
def test_columns(text: str) -> None:
    (argument,) = typed([f"task.label={text}"], multirun=False)
    assert value_of(argument)["label"] == COLUMNS[text]


def test_only_names_are_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = ["task.train=a.csv", "optim.lr=5%é", "technique=[a,b", "task.label=text", "--cfg", "x"]
    assert typed(plain, multirun=True) == plain
    assert typed(["task.train=é.csv,b.csv"], multirun=True) == ["task.train='é.csv',b.csv"]
    assert typed(["task.train=${oc.env:HOME}/f.csv"], multirun=False) == [
        "task.train=${oc.env:HOME}/f.csv"
    ]
    for name in ("a.csv", "b.csv", "a.csv,b.csv"):
        Path(name).write_text(rows())
    assert typed(["task.train=a.csv,b.csv"], multirun=False) == ["task.train='a.csv,b.csv'"]
    with pytest.raises(ConfigError, match="one file of that name, and a choice between 2 files"):
        typed(["task.train=a.csv,b.csv"], multirun=True)


@pytest.mark.parametrize(
    "said",
    [
        "[task.train=a.txt,optim.steps=3]",
        "['task.train=a.txt',optim.steps=3]",
        "['task.train=a.txt','optim.steps=3']",
    ],
)
def test_overrides_of_a_stage_need_no_quotes(said: str) -> None:
    (argument,) = typed([f"sequence.stages.mlm={said}"], multirun=True)
    cfg = compose(["+sequence=pretraining", argument])
    assert cfg.sequence.stages.mlm == ["task.train=a.txt", "optim.steps=3"]


def test_any_text_is_quoted() -> None:
    r = random.Random(1)
    for _ in range(600):
        text = "".join(r.choice("'\"\\${}$a é,=[]x:新%") for _ in range(r.randint(0, 9)))
        for mark in "'\"":
            said = OverridesParser.create().parse_override(f"k={quoted(text, mark)}")
            assert OmegaConf.create({"k": str(said.value())})["k"] == text
            again = OverridesParser.create().parse_override(f"k={said.get_value_element_as_str()}")
            assert str(again.value()) == str(said.value())


def test_from_the_command_line_to_the_record(cli: Say) -> None:
    Path("新 (1)").mkdir()
    file = "新 (1)/données=v2,${x}.csv"
    Path(file).write_text(rows(header="text,größe (mm)"))
    said = cli(*INSPECT, f"task.train={file}", "task.label=größe (mm)")
    assert said.code == 0, said.err
    assert "label is 'größe (mm)'" in said.out
    said = cli(
        "run", "-m", "model=tiny", "task=classification", f"task.train={file}", "device=cpu",
        "task.label=größe (mm)", "optim.steps=1", "sweep.seeds=1", "store=rüns (2)",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert len(list(Path("rüns (2)").glob("*/record.json"))) == 1


def test_the_line_that_is_printed_works(cli: Say) -> None:
    Path("f.csv").write_text(rows(header='text,"a,b"'))
    said = refused(cli, (*INSPECT, "task.train=f.csv", "task.label=a,b"), "if it is one name, type")
    line = shlex.split(said.partition("type: ")[2])
    assert line[0] == "bluestab"
    found = cli(*line[1:])
    assert found.code == 0, found.err
    assert "label is 'a,b'" in found.out
    said = refused(cli, (*INSPECT, "task.train=f.csv", "task.about.url=é(1)"), "one text, type: ")
    assert cli(*shlex.split(said.partition("type: ")[2])[1:]).code == 2  # a label is missing yet
    Path("f.csv").write_text(rows(header="text,${x}"))
    said = refused(
        cli, (*INSPECT, "task.train=f.csv", "task.label=${x}"), "is part of a name, type"
    )
    found = cli(*shlex.split(said.partition("type: ")[2])[1:])
    assert "label is '${x}'" in found.out
    refused(cli, (*INSPECT, "task.train=my", "data.csv"), "in the shell: 'task.train=my data.csv'")


def test_numbers_that_are_names(cli: Say) -> None:
    Path("f.csv").write_text(rows(header="text,2019"))
    assert cli(*INSPECT, "task.train=f.csv", "task.label=2019").code == 0, "there is no number 2019"
    assert cli(*INSPECT, "task.train=f.csv", 'task.label="2019"').code == 0
    Path("f.csv").write_text(rows(header="1,text").replace("some", "yes") + "no,b\nno,c\n")
    said = refused(
        cli, (*INSPECT, "task.train=f.csv", "task.label=1", "task.text=0"), "could be the column"
    )
    assert "number 1 from 0, 'text'" in said


def test_accents_of_macos(cli: Say) -> None:
    apart = unicodedata.normalize("NFD", "é.csv")
    Path(apart).write_text(unicodedata.normalize("NFD", rows(header="text,größe")))
    said = cli(*INSPECT, "task.train=é.csv", "task.label=größe")
    assert said.code == 0, said.err
