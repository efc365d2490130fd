"""Miniatures: invented corpora in their published form, and the files that they become."""

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
from typing import Any

from bluestab.data import converters
from bluestab.data.converters import biosses, chemprot, ddi, hoc, pubmedqa

MODULES = {
    name: importlib.import_module(f"bluestab.data.converters.{name}")
    for _, name, _ in pkgutil.iter_modules(converters.__path__)
}
CONVERTERS = {name: module for name, module in MODULES.items() if hasattr(module, "convert")}


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
