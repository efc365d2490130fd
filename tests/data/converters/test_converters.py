"""Every converter gives what its task reads, and names the file it cannot understand.

Miniatures are invented; where the real corpora are at hand (BLUESTAB_DATA), the result must have
the bytes of the published files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from bluestab.core.catalogue import entries
from bluestab.core.config import compose, resolved
from bluestab.core.errors import DataError
from bluestab.data.converters import hoc
from tests.conftest import real_data
from tests.support.miniatures import CONVERTERS, MINIATURES, zipped

Convert = Callable[..., dict[str, bytes]]

# --- what holds for each ---------------------------------------------------------------------


def test_every_converter_is_tested_here() -> None:
    assert set(MINIATURES) == set(CONVERTERS)
    assert set(REAL) | {"bioasq", "hoc"} == set(CONVERTERS)


def test_a_converter_has_one_public_function() -> None:
    def own(module: ModuleType) -> set[str]:
        return {
            name
            for name, value in vars(module).items()
            if callable(value)
            and not isinstance(value, type)
            and not name.startswith("_")
            and getattr(value, "__module__", "") == module.__name__
        }

    assert {name: own(module) for name, module in CONVERTERS.items()} == {
        name: {"convert"} for name in CONVERTERS
    }


@pytest.mark.parametrize("name", CONVERTERS)
def test_miniature(convert: Convert, name: str) -> None:
    made = {file: content.decode() for file, content in convert(name).items()}
    assert made == MINIATURES[name]().expected


@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name in CONVERTERS for file in MINIATURES[name]().files]
)
def test_an_unusable_file_is_named(convert: Convert, name: str, file: str) -> None:
    whole = MINIATURES[name]().files[file]
    for content in (None, b"", b"\x00\xff\xfe no such thing", whole[: len(whole) // 3]):
        with pytest.raises(DataError) as caught:
            convert(name, {file: content})
        assert Path(file).name in str(caught.value)


@pytest.mark.parametrize("name", sorted(CONVERTERS))
def test_tasks_name_files_that_the_converter_knows(name: str) -> None:
    """Of those with a yaml: what is fetched is what is asked for, and gives what is read."""
    if name not in entries("task"):
        pytest.skip(f"no task {name} yet")
    task = resolved(compose([f"task={name}", "model=tiny"]))["task"]
    if (task.get("fetch") or {}).get("convert") is None:
        pytest.skip(f"the files of task {name} come as they are")
    assert task["fetch"]["convert"] == name
    miniature = MINIATURES[name]()
    assert {file["file"] for file in task["fetch"]["files"]} >= set(miniature.files)
    assert {task[part] for part in ("train", "validation", "test")} <= set(miniature.expected)


# --- the real corpora ------------------------------------------------------------------------

REAL = {  # converter -> folder of the originals, folder of the files they must become
    "bc5cdr_chem": ("bc5cdr/pubtator", "bc5cdr_chem"),
    "bc5cdr_disease": ("bc5cdr/pubtator", "bc5cdr_disease"),
    "biosses": ("biosses", "biosses"),
    "chemprot": ("chemprot/original", "chemprot"),
    "ddi": ("ddi/original", "ddi"),
    "ncbi_disease": ("ncbi_disease/pubtator", "ncbi_disease"),
    "pubmedqa": ("pubmedqa", "pubmedqa"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_published_bytes(name: str) -> None:
    source, target = (real_data() / folder for folder in REAL[name])
    if not source.is_dir():
        pytest.skip(f"no {source}")
    made = CONVERTERS[name].convert({path.name: path for path in source.iterdir()})
    for file, content in made.items():
        proper = (target / file).read_bytes()
        different = sum(
            a != b for a, b in zip(content.split(b"\n"), proper.split(b"\n"), strict=False)
        )
        assert content == proper, f"{name}/{file}: {different} lines differ"


def test_real_hallmarks_survive_the_way_back(tmp_path: Path) -> None:
    """The authors' archive is not at hand: it is rebuilt from the rows it became."""
    folder = real_data() / "hoc"
    texts: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    for part in ("train", "dev", "test"):
        rows = (folder / f"{part}.tsv").read_bytes().decode().split("\n")[1:-1]
        for flags, sentence, index in (row.split("\t") for row in rows):
            pmid = index.partition("_")[0]
            texts.setdefault(pmid, []).append(sentence)
            on = [hoc.HALLMARKS[i] for i, flag in enumerate(flags.split(",")) if flag.endswith("1")]
            labels[pmid] = labels.get(pmid, "") + "<" + " AND".join(f"{o.title()}--x" for o in on)
    members = {f"x/text/{pmid}.txt": "\n".join([*lines, ""]) for pmid, lines in texts.items()}
    members |= {f"x/labels/{pmid}.txt": line for pmid, line in labels.items()}
    path = tmp_path / hoc.ARCHIVE
    path.write_bytes(zipped(members))
    for file, content in hoc.convert({hoc.ARCHIVE: path}).items():
        assert content == (folder / file).read_bytes(), file
