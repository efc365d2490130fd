"""Converters give what tasks read, name the line they cannot understand, and trust no archive.

Miniatures are invented; where the real corpora are at hand (BLUESTAB_DATA), the result must have
the bytes of the published files.
"""

from __future__ import annotations

import importlib
import io
import json
import pkgutil
import random
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bluestab.core.catalogue import entries
from bluestab.core.config import compose, resolved
from bluestab.core.errors import DataError
from bluestab.data import converters
from bluestab.data.converters import biosses, chemprot, ddi, hoc, originals, pubmedqa, pubtator
from tests.conftest import real_data

MODULES = {
    name: importlib.import_module(f"bluestab.data.converters.{name}")
    for _, name, _ in pkgutil.iter_modules(converters.__path__)
}
CONVERTERS = {name: module for name, module in MODULES.items() if hasattr(module, "convert")}


# --- miniatures ------------------------------------------------------------------------------


@dataclass
class Miniature:
    """Invented input files, what they become, and replacements of constants of the module."""

    files: dict[str, bytes]
    expected: dict[str, str]
    patches: dict[str, Any] = field(default_factory=dict)


def zipped(members: Mapping[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content.encode())
            archive.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


def unmarked(text: str) -> tuple[str, list[tuple[str, int, int, str]]]:
    """`<C:aspirin> blocks <G:COX>` -> text and (mark, start, end, words); marks may be nested."""
    plain, found, opened = "", [], []
    for piece in re.split(r"(<\w+:|>)", text):
        if piece == ">":
            mark, start = opened.pop()
            found.append((mark, start, len(plain), plain[start:]))
        elif re.fullmatch(r"<\w+:", piece):
            opened.append((piece[1:-1], len(plain)))
        else:
            plain += piece
    return plain, found


def chemprot_part(pattern: str, texts: Mapping[str, str], relations: str) -> dict[str, str]:
    """The three tables of a part; a mark such as `T1C` is entity T1, a chemical; G a gene."""
    abstracts, entities = [], []
    for pmid, marked in texts.items():
        plain, found = unmarked(marked)
        abstracts.append(f"{pmid}\t{plain}\n")
        for mark, start, end, words in found:
            kind = "CHEMICAL" if mark.endswith("C") else "GENE-Y"
            entities.append(f"{pmid}\t{mark[:-1]}\t{kind}\t{start}\t{end}\t{words}\n")
    tables = {"abstracts": "".join(abstracts), "entities": "".join(entities)}
    tables["relations"] = relations
    return {pattern.format(kind): content for kind, content in tables.items()}


CHEMPROT_TRAIN = {
    "11": "On <T1C:zolmin>\t<T2G:GKP1> is blocked by <T3C:zolmin> and raised by <T4C:tarpid>. No!",
    "12": "<T1C:<T2G:fumar>ase acid> is odd.\tNothing follows (<T3C:zolmin>).",
}
CHEMPROT_RELATIONS = (
    "11\tCPR:4\tY \tINHIBITOR\tArg1:T3\tArg2:T2\n11\tCPR:2\tN \tREGULATOR\tArg1:T4\tArg2:T2\n"
)


def chemprot_members() -> dict[str, str]:
    other = {"21": "<T1C:zolmin> met <T2G:GKP2>.\tIt did."}
    return {
        **chemprot_part(chemprot.PARTS["train"], CHEMPROT_TRAIN, CHEMPROT_RELATIONS),
        **chemprot_part(
            chemprot.PARTS["dev"], other, "21\tCPR:9\tY \tSUBSTRATE\tArg1:T1\tArg2:T2\n"
        ),
        **chemprot_part(chemprot.PARTS["test"], other, ""),
    }


def chemprot_miniature() -> Miniature:
    return Miniature(
        {chemprot.ARCHIVE: tarred(chemprot_members())},
        {
            "train.tsv": (
                "11.T2.T3\t@GENE$ is blocked by @CHEMICAL$ and raised by tarpid.\tCPR:4\n"
                "11.T2.T4\t@GENE$ is blocked by zolmin and raised by @CHEMICAL$.\tfalse\n"
                "12.T2.T1\t@CHEM-GENE$ is odd.\tfalse\n"
            ),
            "dev.tsv": "21.T1.T2\t@CHEMICAL$ met @GENE$.\tCPR:9\n",
            "test.tsv": "21.T1.T2\t@CHEMICAL$ met @GENE$.\tfalse\n",
        },
    )


def ddi_xml(name: str, sentences: str) -> str:
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    return f'{head}\n<document id="{name}">\n{sentences}\n</document>\n'


DDI_PAIR = """<sentence id="{d}.s0" text="Zolmin raised tarpid&#10;levels. ">
<entity id="{d}.s0.e0" charOffset="0-5" type="drug" text="Zolmin"/>
<entity id="{d}.s0.e1" charOffset="14-19" type="drug" text="tarpid"/>
<pair id="{d}.s0.p0" e1="{d}.s0.e1" e2="{d}.s0.e0" ddi="true" type="effect"/>
</sentence>"""
DDI_ODD = """<sentence id="{d}.s1" text="Tarpid or solid zolmin helps">
<entity id="{d}.s1.e0" charOffset="0-5;16-21" type="drug" text="Tarpid zolmin"/>
<entity id="{d}.s1.e1" charOffset="16-21" type="drug" text="zolmin"/>
<pair id="{d}.s1.p0" e1="{d}.s1.e0" e2="{d}.s1.e1" ddi="false"/>
</sentence>
<sentence id="{d}.s2" text="No drug at all."/>"""


def ddi_members() -> dict[str, str]:
    train, test = ddi.FOLDERS
    one, two, three = "DDI-DrugBank.d901", "DDI-MedLine.d902", "DDI-MedLine.d903"
    return {
        f"{train}DrugBank/Zolmin_ddi.xml": ddi_xml(one, (DDI_PAIR + DDI_ODD).format(d=one)),
        f"{train}MedLine/902.xml": ddi_xml(two, DDI_PAIR.format(d=two)),
        f"{test}MedLine/903.xml": ddi_xml(three, DDI_PAIR.format(d=three)),
        f"{test}MedLine/904.xml": ddi_xml("DDI-MedLine.d904", ""),
        "DDICorpus/Test/Test for DrugNER task/MedLine/905.xml": "not looked at",
        "__MACOSX/DDICorpus/Train/MedLine/902.xml": "not looked at",
    }


def ddi_row(document: str) -> str:
    return f"{document}.s0.p0\t@DRUG$ raised @DRUG$ levels. \tDDI-effect\n"


DDI_SPLIT = {"train": ["B901"], "dev": ["M902"], "test": ["M903"]}


def ddi_miniature() -> Miniature:
    odd = "DDI-DrugBank.d901.s1.p0\t@DRUG-DRUG$ helps\tDDI-false\n"
    return Miniature(
        {ddi.ARCHIVE: zipped(ddi_members())},
        {
            "train.tsv": ddi_row("DDI-DrugBank.d901") + odd,
            "dev.tsv": ddi_row("DDI-MedLine.d902"),
            "test.tsv": ddi_row("DDI-MedLine.d903"),
        },
        {"split_lists": lambda corpus: DDI_SPLIT},
    )


def hoc_members() -> dict[str, str]:
    return {
        "repository-abc/README.md": "not looked at",
        "repository-abc/text/101.txt": "Cells grew .\nVessels grew , too .\nNo more .\n",
        "repository-abc/labels/101.txt": (
            "<Sustaining proliferative signaling--Cell cycle ANDResisting cell death--Apoptosis"
            "<  Inducing angiogenesis-- AND Inducing angiogenesis--Factors< "
        ),
        "repository-abc/text/102.txt": "Nothing .\n",
        "repository-abc/labels/102.txt": "< < NULL",
    }


def hoc_flags(*on: int) -> str:
    return ",".join(f"{i}_{int(i in on)}" for i in range(10))


HOC_SPLIT = {"train": ["101"], "dev": [], "test": ["102"]}


def hoc_miniature() -> Miniature:
    header = "labels\tsentence\tindex\n"
    return Miniature(
        {hoc.ARCHIVE: zipped(hoc_members())},
        {
            "train.tsv": header
            + f"{hoc_flags(7, 8)}\tCells grew .\t101_s0\n"
            + f"{hoc_flags(6)}\tVessels grew , too .\t101_s1\n"
            + f"{hoc_flags()}\tNo more .\t101_s2\n",
            "dev.tsv": header,
            "test.tsv": header + f"{hoc_flags()}\tNothing .\t102_s0\n",
        },
        {"split_lists": lambda corpus: HOC_SPLIT},
    )


PUBTATOR = """\
20|t|Zolmin's fate.
20|a|It cured type 2 gripe. Gripe fell.
20\t0\t6\tZolmin\tChemical\tD1
20\t24\t36\ttype 2 gripe\tDisease\tD2
20\t38\t43\tGripe\tDisease\tD2
20\tCID\tD1\tD2

100|t|Gripe: why?
100|a|None.
100\t0\t5\tGripe\tDisease\tD2
"""


def sentences_of(*sentences: str) -> str:
    """`word/B word` per sentence -> CoNLL, `/B` and `/I` standing for the tags."""
    rows = []
    for sentence in sentences:
        for word in sentence.split():
            token, _, tag = word.partition("/")
            rows.append(f"{token}\t{tag or 'O'}\n")
        rows.append("\n")
    return "".join(rows)


def bc5cdr_miniature(name: str) -> Miniature:
    b, i = f"/B-{name}", f"/I-{name}"
    x, y, z = (b, "", "") if name == "Chemical" else ("", b, i)
    text = sentences_of(  # in the order of the ids as text
        f"Gripe{y} : why ?",
        "None .",
        f"Zolmin{x} ' s fate .",
        f"It cured type{y} 2{z} gripe{z} .",
        f"Gripe{y} fell .",
    )
    names = ("Training", "Development", "Test")
    files = {f"CDR_{part}Set.PubTator.txt": PUBTATOR.encode() for part in names}
    return Miniature(files, {f"{part}.tsv": text for part in ("train", "devel", "test")})


def ncbi_miniature() -> Miniature:
    text = PUBTATOR.replace("Chemical", "Modifier").replace("\tDisease", "\tSpecificDisease")
    twice = text + text.partition("\n\n")[0].replace("Gripe", "GRIPE")
    rows = sentences_of(
        "Gripe/B-Disease : why ?",
        "None .",
        "Zolmin/B-Disease ' s fate .",
        "It cured type/B-Disease 2/I-Disease gripe/I-Disease .",
        "Gripe/B-Disease fell .",
    )
    files = {f"NCBI{part}set_corpus.txt": twice.encode() for part in ("train", "develop", "test")}
    return Miniature(files, {f"conll/{part}.tsv": rows for part in ("train", "devel", "test")})


def biosses_miniature() -> Miniature:
    rows, expected = ["\t".join(biosses.COLUMNS)], {}
    for i in range(1, 101):
        scores = [str((i + a) % 5) for a in range(4)] + ["4"]
        rows.append("\t".join([str(i), f"Cells  number {i}. ", f" Cell {i} divides", *scores]))
        blanks = " \u00a0" if str(i) in biosses.BLANKS and i != 79 else "  "
        mean = sum(map(int, scores)) / 5
        expected[str(i)] = f"{i}\tCells{blanks}number {i}.\tCell {i} divides\t{mean}\n"
    header = "pair_id\tsent1\tsent2\tscore\n"
    return Miniature(
        {biosses.FILE: "\n".join([*rows, ""]).encode()},
        {
            f"{part}.tsv": header + "".join(expected[i] for i in ids.split())
            for part, ids in biosses.PARTS.items()
        },
    )


def pubmedqa_items() -> dict[str, dict[str, Any]]:
    answers = ["yes"] * 40 + ["no"] * 30 + ["maybe"] * 11
    return {
        str(1000 + i): {"QUESTION": f"Is it {i}\u00b0?", "CONTEXTS": [], "final_decision": answer}
        for i, answer in enumerate(answers)
    }


def pubmedqa_miniature() -> Miniature:
    """The draw itself is compared with the published one below; here its form."""
    items, chance = pubmedqa_items(), random.Random(0)
    rest, test = pubmedqa._deal(items, 2, chance)
    folds = pubmedqa._deal({pmid: items[pmid] for pmid in rest}, 10, chance)

    def text(pmids: list[str]) -> str:
        return json.dumps({pmid: items[pmid] for pmid in pmids}, indent=4)

    truth = {pmid: items[pmid]["final_decision"] for pmid in sorted(test)}
    return Miniature(
        {
            pubmedqa.QUESTIONS: json.dumps(items).encode(),
            pubmedqa.ANSWERS: json.dumps(truth).encode(),
        },
        {
            "test_set.json": text(test),
            "pqal_fold0/dev_set.json": text(folds[0]),
            "pqal_fold0/train_set.json": text([pmid for fold in folds[1:] for pmid in fold]),
        },
    )


def bioasq_question(name: str, **changes: Any) -> dict[str, Any]:
    question = {
        "id": name,
        "type": "yesno",
        "body": f"Is {name}\nreal?",
        "exact_answer": "yes",
        "ideal_answer": ["It may be."],
        "snippets": [{"text": "First\nline.", "document": "x"}, {"text": "Second."}],
    }
    return {**question, **changes}


def bioasq_files() -> dict[str, Any]:
    factoid = bioasq_question("q0", type="factoid", exact_answer=[["x"]], snippets=None)
    training = [factoid, bioasq_question("q1"), bioasq_question("q2", exact_answer="No")]
    files: dict[str, Any] = {MODULES["bioasq"].TRAINING: {"questions": training}}
    for i, name in enumerate(MODULES["bioasq"].GOLDEN):
        files[name] = {"questions": [bioasq_question(f"g{i}", exact_answer=["no"])]}
    return files


def bioasq_rows(*rows: tuple[str, str]) -> str:
    context = "First line. Second."
    content = [
        {"id": name, "question": f"Is {name} real?", "context": context, "answer": answer}
        for name, answer in rows
    ]
    return json.dumps(content, indent=1) + "\n"


def bioasq_miniature() -> Miniature:
    return Miniature(
        {name: json.dumps(content).encode() for name, content in bioasq_files().items()},
        {
            "train.json": bioasq_rows(("q1", "yes")),
            "dev.json": bioasq_rows(("q2", "no")),
            "test.json": bioasq_rows(*((f"g{i}", "no") for i in range(5))),
        },
        {
            "split_lists": lambda corpus: {"dev": ["q2"]},
            "COUNTS": {"train": 1, "dev": 1, "test": 5},
        },
    )


MINIATURES: dict[str, Callable[[], Miniature]] = {
    "bc5cdr_chem": lambda: bc5cdr_miniature("Chemical"),
    "bc5cdr_disease": lambda: bc5cdr_miniature("Disease"),
    "bioasq": bioasq_miniature,
    "biosses": biosses_miniature,
    "chemprot": chemprot_miniature,
    "ddi": ddi_miniature,
    "hoc": hoc_miniature,
    "ncbi_disease": ncbi_miniature,
    "pubmedqa": pubmedqa_miniature,
}

Convert = Callable[..., dict[str, bytes]]


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Convert:
    """`convert(name, files={...})`: run a converter on its miniature, some files replaced."""

    def run(name: str, files: Mapping[str, bytes | None] | None = None) -> dict[str, bytes]:
        miniature, module = MINIATURES[name](), CONVERTERS[name]
        for constant, value in miniature.patches.items():
            monkeypatch.setattr(module, constant, value)
        paths = {}
        for i, (file, content) in enumerate({**miniature.files, **(files or {})}.items()):
            if content is None:
                continue
            paths[file] = tmp_path / f"download{i}" / Path(file).name
            paths[file].parent.mkdir(exist_ok=True)
            paths[file].write_bytes(content)
        before = sorted(tmp_path.rglob("*"))
        try:
            return module.convert(paths)
        finally:
            assert sorted(tmp_path.rglob("*")) == before, "a converter writes nothing"

    return run


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


# --- archives and tables ---------------------------------------------------------------------


def test_a_member_of_absurd_size_is_refused(
    convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(originals, "MAX_BYTES", 50)
    with pytest.raises(DataError, match=r"zip/DDICorpus/Train/.*ddi\.xml: has \d+ bytes"):
        convert("ddi")
    with pytest.raises(DataError, match=r"gz/chemprot_training/.*tsv: has \d+ bytes"):
        convert("chemprot")


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b.txt", "one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/b.txt", "two")
    with pytest.raises(DataError, match=r"x\.zip/a/b\.txt: is twice in the archive"):
        originals.zip_members(path, lambda name: True)


def test_a_damaged_member_is_found(convert: Convert) -> None:
    whole = bytearray(MINIATURES["hoc"]().files[hoc.ARCHIVE])
    at = whole.index(b"repository-abc/text/101.txt") + len("repository-abc/text/101.txt") + 3
    whole[at] ^= 0xFF
    with pytest.raises(DataError, match="not a readable zip archive"):
        convert("hoc", {hoc.ARCHIVE: bytes(whole)})


BOMB = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>\n<document id="&b;"/>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("doctype", [BOMB, '<!DOCTYPE d SYSTEM "file:///etc/passwd"><d/>'])
def test_entities_are_refused(encoding: str, doctype: str) -> None:
    with pytest.raises(DataError, match=r"x\.xml: declares a document type"):
        originals.xml_root(Path("x.xml"), doctype.encode(encoding))
    assert originals.xml_root(Path("x.xml"), "<d/>".encode(encoding)).tag == "d"


def test_placeholders() -> None:
    text, names = "aa bb cc", ("@1", "@2")
    assert originals.masked(text, (0, 2), (6, 8), names, "@J") == "@1 bb @2"
    assert originals.masked(text, (0, 2), (2, 5), names, "@J") == "@1@2 cc", (
        "neighbours do not overlap"
    )
    assert originals.masked(text, (0, 5), (3, 8), names, "@J") == "@J"
    assert originals.masked(text, (0, 8), (3, 5), names, "@J") == "@J"


# --- ChemProt --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentences",
    [
        ["It fell (P<0.05).", "The rest rose!", "Did it?", "3 did."],
        ["Given i.p.", "administration followed."],  # no abbreviation in newspapers
        ['They measured LH ("a hormone.")', "It rose."],
        ["A dose (5 mg/kg, i.p.", "), was given."],
        ["E. coli was kept at 4 degrees C. The rest at 25."],
        ["Complex I.", "The other."],
        ["Of complex I. Nobody knows."],
        ["Release of DM and DR. We saw DM vs. DR.", "This is new."],
        ["They are 1.", "The first, 2. the second."],
        ["A title.", "An abstract."],
    ],
)
def test_chemprot_sentences(sentences: list[str]) -> None:
    separator = "\t" if sentences[0] == "A title." else " "
    text = separator.join(sentences).replace("i.p. )", "i.p.)")
    assert [text[start:end] for start, end in chemprot._sentences(text)] == sentences


@pytest.mark.parametrize(
    ("table", "row", "reason"),
    [
        ("abstracts", "13 no tabs", "expected PMID, title and abstract"),
        ("abstracts", "11\tAgain.\tAgain.", "a second abstract 11"),
        ("entities", "11\tT9\tCHEMICAL\t0\t2", "has 5 columns, not 6"),
        ("entities", "99\tT9\tCHEMICAL\t0\t2\tOn", "unknown abstract '99'"),
        ("entities", "11\tT1\tCHEMICAL\t0\t2\tOn", "a second entity T1 in 11"),
        ("entities", "11\tT9\tCHEMICAL\tzero\t2\tOn", "the start is 'zero'"),
        ("entities", "11\tT9\tCHEMICAL\t1\t3\tOn", "'On' is not at 1-3, 'n ' is"),
        ("entities", "11\tT9\tCHEMICAL\t500\t502\tOn", "'On' is not at 500-502, '' is"),
        ("entities", "11\tT9\tVIRUS\t0\t2\tOn", "unknown type 'VIRUS'"),
        ("relations", "11\tCPR:4\tY \tINHIBITOR\tArg1:T3\tArg2:T77", "unknown entity 'T77'"),
        ("relations", "99\tCPR:4\tY \tINHIBITOR\tArg1:T3\tArg2:T2", "unknown abstract '99'"),
        ("relations", "11\tCPR:4", "has 2 columns, not 6"),
    ],
)
def test_chemprot_broken_rows(convert: Convert, table: str, row: str, reason: str) -> None:
    members = chemprot_members()
    name = chemprot.PARTS["train"].format(table)
    line = members[name].count("\n") + 1
    members[name] += row + "\n"
    with pytest.raises(DataError, match=rf"{name}, line {line}: .*{re.escape(reason)}"):
        convert("chemprot", {chemprot.ARCHIVE: tarred(members)})


def test_chemprot_missing_member(convert: Convert) -> None:
    members = chemprot_members()
    del members[chemprot.PARTS["test"].format("entities")]
    with pytest.raises(DataError, match=r"tar\.gz: has no member chemprot_test_gs/.*entities"):
        convert("chemprot", {chemprot.ARCHIVE: tarred(members)})


# --- DDI -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('e1="DDI-MedLine.d902.s0.e1"', 'e1="nobody"', "names an unknown entity 'nobody'"),
        ('charOffset="14-19"', 'charOffset="14,19"', "has charOffset '14,19'"),
        ('charOffset="14-19"', 'charOffset="14-90"', "at 14-90, outside its sentence"),
        ('charOffset="14-19"', "", "an? <entity> has no attribute 'charOffset'"),
        (' type="effect"', "", "ddi='true' type=None"),
        ('"effect"', '"affect"', "type='affect'"),
        ('ddi="true"', 'ddi="perhaps"', "ddi='perhaps'"),
        ('id="DDI-MedLine.d902"', 'id="DDI-DrugBank.d901"', "a second document DDI-DrugBank.d901"),
        ("</document>", "", r"902\.xml, line \d+: is not XML"),
    ],
)
def test_ddi_broken_documents(convert: Convert, old: str, new: str, reason: str) -> None:
    members = ddi_members()
    name = f"{ddi.FOLDERS[0]}MedLine/902.xml"
    assert old in members[name]
    members[name] = members[name].replace(old, new)
    with pytest.raises(DataError, match=reason) as caught:
        convert("ddi", {ddi.ARCHIVE: zipped(members)})
    assert "902.xml" in str(caught.value)


def test_ddi_documents_and_split_agree(convert: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    members = ddi_members()
    del members[f"{ddi.FOLDERS[0]}MedLine/902.xml"]
    with pytest.raises(DataError, match=r"lacks 1 documents, among them DDI-MedLine\.d902"):
        convert("ddi", {ddi.ARCHIVE: zipped(members)})
    new = "DDI-MedLine.d909"
    members = {**ddi_members(), f"{ddi.FOLDERS[0]}new.xml": ddi_xml(new, DDI_PAIR.format(d=new))}
    with pytest.raises(DataError, match=r"has 1 documents in no part of the split: .*d909"):
        convert("ddi", {ddi.ARCHIVE: zipped(members)})


def test_ddi_errata(convert: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    shifted = "DDI-MedLine.d902.s0"
    members = {k: v.replace("Zolmin raised", "Zolmin] gave ") for k, v in ddi_members().items()}
    plain = convert("ddi", {ddi.ARCHIVE: zipped(members)})["dev.tsv"].decode()
    assert plain == f"{shifted}.p0\t@DRUG$] gave  @DRUG$ levels. \tDDI-effect\n"
    monkeypatch.setattr(ddi, "SHIFTED", {shifted})
    monkeypatch.setattr(ddi, "ERRATA", {f"{shifted}.p0": "int"})
    mended = convert("ddi", {ddi.ARCHIVE: zipped(members)})["dev.tsv"].decode()
    assert mended == f"{shifted}.p0\t@DRUG$];gave  t@DRUG$levels. \tDDI-int\n"


# --- PubTator --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentences",
    [
        ["It fell.", "We saw it!", "Did we?", "3 did."],
        ["It fell (see below. It did) twice.", "We saw."],
        ["It fell [see below (or not. Who knows) there. Yes] twice."],
        ["It fell (a stray.", "We saw."],
        ["It fell. then it rose.", "A rise"],
        ["By J.", "Smith wrote.", "So did Anton P. Smith."],
        ["Mice vs. Rats, e.g. Wistar, i. v. once, cf. No. 5.", "Dr. Who."],
        ["It fell.", ". We saw."],
        ["A (" + "b" * 200 + " (" + "c" * 100 + ") d. We saw e)."],
        ["A (" + "b" * 260 + " (c) d.", "We saw " + "e" * 260 + " (f))."],
    ],
)
def test_pubtator_sentences(sentences: list[str]) -> None:
    text = " ".join(sentences)
    cuts = [0, *pubtator._ends(text), len(text)]
    assert [text[a:b].strip() for a, b in pairwise(cuts)] == sentences


def test_a_sentence_end_cuts_a_mention_and_a_part_of_a_token_counts(convert: Convert) -> None:
    text = "7|t|Bone-ache at St. Zolma fire.\n7|a|No.\n"
    text += "7\t1\t3\ton\tDisease\tD2\n7\t13\t26\tSt. Zolma fir\tDisease\tD1\n"
    made = convert("bc5cdr_disease", {"CDR_TestSet.PubTator.txt": text.encode()})["test.tsv"]
    assert made.decode() == sentences_of(
        "Bone/B-Disease - ache at St/B-Disease ./I-Disease",
        "Zolma/B-Disease fire/I-Disease .",
        "No .",
    )


@pytest.mark.parametrize(
    ("line", "old", "new", "reason"),
    [
        (2, "20|a|", "21|a|", "abstract of 21 does not follow its title"),
        (1, "20|t|", "20|a|", "abstract of 20 does not follow its title"),
        (3, "20\t0", "21\t0", "belongs to no abstract"),
        (3, "\t0\t", "\tzero\t", "an offset is 'zero'"),
        (3, "\t0\t6", "\t1\t6", "'Zolmin' is not at 1-6, 'olmin' is"),
        (4, "\t24\t36", "\t2400\t3600", "'type 2 gripe' is not at 2400-3600"),
        (3, "20\t0\t6\tZolmin\tChemical\tD1", "20\t0\t6", "expected id, start, end, text and type"),
    ],
)
def test_pubtator_broken_rows(convert: Convert, line: int, old: str, new: str, reason: str) -> None:
    text = PUBTATOR.replace(old, new, 1).encode()
    with pytest.raises(DataError, match=rf"TestSet.PubTator.txt, line {line}: .*{reason}"):
        convert("bc5cdr_chem", {"CDR_TestSet.PubTator.txt": text})


def test_pubtator_title_without_abstract(convert: Convert) -> None:
    text = (PUBTATOR + "\n300|t|Alone.\n").encode()
    with pytest.raises(DataError, match=r"a title but no abstract for 300"):
        convert("bc5cdr_chem", {"CDR_TestSet.PubTator.txt": text})


# --- Hallmarks of Cancer ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "content", "reason"),
    [
        ("labels/101.txt", "< <", "labels/101.txt: has labels for 2 sentences, the text has 3"),
        ("text/101.txt", "", "has labels for 3 sentences, the text has 0"),
        (
            "labels/101.txt",
            "<Resisting cell deaths--x",
            "unknown hallmark 'resisting cell deaths'; did",
        ),
        ("text/101.txt", None, "has no member text/101.txt"),
        ("labels/102.txt", None, "has no member labels/102.txt"),
    ],
)
def test_hoc_broken_members(
    convert: Convert, member: str, content: str | None, reason: str
) -> None:
    members = {**hoc_members(), f"repository-abc/{member}": content}
    archive = zipped({name: text for name, text in members.items() if text is not None})
    with pytest.raises(DataError, match=reason):
        convert("hoc", {hoc.ARCHIVE: archive})


def test_hoc_labels_beyond_the_last_sentence_are_passed_over(convert: Convert) -> None:
    members = hoc_members()
    members["repository-abc/labels/102.txt"] += "<Cellular energetics--Glycolysis"
    made = convert("hoc", {hoc.ARCHIVE: zipped(members)})
    assert made == convert("hoc")


def test_hoc_split_is_blurb_s() -> None:
    split = originals.split_lists("hoc")
    assert {part: len(ids) for part, ids in split.items()} == {
        "train": 1295,
        "dev": 186,
        "test": 371,
    }
    assert len({pmid for ids in split.values() for pmid in ids}) == 1852


# --- the others ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("sentence_id", "id", 1, "names the columns"),
        ("\n7\t", "\n6\t", 8, "has a second pair 6"),
        ("\t4\n2\t", "\tfour\n2\t", 2, "annotator_e is 'four'"),
        ("\t4\n2\t", "\t5\n2\t", 2, "has a score of 5"),
        ("\t4\n2\t", "\n2\t", 2, "has 7 columns, not 8"),
    ],
)
def test_biosses_broken_rows(convert: Convert, old: str, new: str, line: int, reason: str) -> None:
    text = MINIATURES["biosses"]().files[biosses.FILE].decode()
    assert old in text
    with pytest.raises(DataError, match=f"{biosses.FILE}, line {line}: .*{reason}"):
        convert("biosses", {biosses.FILE: text.replace(old, new, 1).encode()})


def test_pubmedqa_parts_have_the_answers_in_equal_shares(convert: Convert) -> None:
    parts = {name: json.loads(content) for name, content in convert("pubmedqa").items()}
    sizes = {name: len(items) for name, items in parts.items()}
    # 81 questions: 41 and 40 by answers, one of the 41 moved to the last part, which is the test
    assert sizes["test_set.json"] == 41
    assert sizes["pqal_fold0/train_set.json"] + sizes["pqal_fold0/dev_set.json"] == 40
    together = {pmid: item for items in parts.values() for pmid, item in items.items()}
    assert together == pubmedqa_items()
    answers = [item["final_decision"] for item in parts["test_set.json"].values()]
    assert abs(answers.count("yes") - 20) <= 1
    assert abs(answers.count("no") - 15) <= 1


def test_pubmedqa_wrong_answers(convert: Convert) -> None:
    with pytest.raises(DataError, match="does not hold the test questions drawn from ori_pqal"):
        convert("pubmedqa", {pubmedqa.ANSWERS: b'{"1000": "yes"}'})
    items: dict[str, Any] = {**pubmedqa_items(), "5": {"final_decision": "perhaps"}}
    with pytest.raises(DataError, match="5 has final_decision 'perhaps'"):
        convert("pubmedqa", {pubmedqa.QUESTIONS: json.dumps(items).encode()})
    with pytest.raises(DataError, match="should hold an object"):
        convert("pubmedqa", {pubmedqa.QUESTIONS: b"[1]"})
    with pytest.raises(DataError, match=r"ori_pqal\.json, line 3: is not JSON"):
        convert("pubmedqa", {pubmedqa.QUESTIONS: b'{\n"a": 1,\n}'})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exact_answer": "perhaps"}, "exact_answer of g4 is 'perhaps', neither yes nor no"),
        ({"exact_answer": None}, "exact_answer of g4 should be a text, is None"),
        ({"snippets": None}, "snippets of g4 should be a list"),
        ({"snippets": [{"text": 3}]}, "a snippet's text of g4 should be a text, is 3"),
        ({"body": ""}, "body of g4 should be a text"),
        ({"id": 4}, r"id of questions\[0\] should be a text, is 4"),
        ({"id": "g3"}, "has the question g3 twice"),
        ({"type": "list"}, "gives 4 yes/no questions for test, BLURB has 5"),
    ],
)
def test_bioasq_broken_questions(convert: Convert, changes: dict[str, Any], reason: str) -> None:
    last = MODULES["bioasq"].GOLDEN[-1]
    content = {"questions": [bioasq_question("g4", **changes)]}
    with pytest.raises(DataError, match=reason):
        convert("bioasq", {last: json.dumps(content).encode()})


def test_bioasq_dev_list() -> None:
    ids = originals.split_lists("bioasq")["dev"]
    assert len(ids) == len(set(ids)) == 75
    assert all(re.fullmatch("[0-9a-f]{24}", name) for name in ids)


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
