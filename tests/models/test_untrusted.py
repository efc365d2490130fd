"""Folders of strangers: each trick is refused in a sentence, or shown harmlessly; nothing runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core import plain_files  # noqa: E402
from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.inference.export import export  # noqa: E402
from bluestab.inference.weights import find_run, open_weights  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from tests.conftest import Say  # noqa: E402
from tests.store.test_artefacts import SHORT  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]


class Evil:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.system, (f"touch '{self.path}'",))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves what all need."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def folder(make_run: Make, made: Path, tmp_path: Path) -> Path:
    """A good export, to be poisoned."""
    if not (made / "out").exists():
        run = make_run("task=gad", "model=tiny", *SHORT, "keep=last")
        done(run, made / "runs")
        export(find_run(run.key, Store(made / "runs")), made / "out", "cpu")
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Path], None]:
    return lambda folder, mark: edit(folder / "bluestab.json", change)


def pickled(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(mark)))


def pickle_by_another_name(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Evil(mark)))
    from bluestab.data.locate import sha256_of

    digest = sha256_of(folder / "model.safetensors")
    edit(folder / "bluestab.json", lambda c: c["members"][0].update(sha256=digest))


def own_code(name: str) -> Callable[[Path, Path], None]:
    def poison(folder: Path, mark: Path) -> None:
        (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
        auto = {"AutoModelForSequenceClassification": "evil.Evil", "AutoTokenizer": "evil.Evil"}
        edit(folder / name, lambda c: c.update(auto_map=auto))

    return poison


def linked(folder: Path, mark: Path) -> None:
    (folder / "vocab.txt").symlink_to("/etc/hostname")


POISONS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "pickled weights": (pickled, "pytorch_model.bin, a pickle, which may run code"),
    "a pickle called safetensors": (pickle_by_another_name, "is damaged or no safetensors"),
    "auto_map of the model": (own_code("config.json"), "has 'auto_map', by which a model brings"),
    "auto_map of the tokenizer": (own_code("tokenizer_config.json"), "has 'auto_map'"),
    "an adapter from elsewhere": (
        lambda f, m: (f / "adapter_config.json").write_text("{}") and None,
        "it names other weights to be loaded from elsewhere",
    ),
    "a quantiser": (
        lambda f, m: edit(f / "config.json", lambda c: c.update(quantization_config={})),
        "has 'quantization_config'",
    ),
    "another kind of network": (
        lambda f, m: edit(f / "config.json", lambda c: c.update(model_type="opt")),
        "says model_type 'opt': no encoder that can be trained here: transformers has no masked",
    ),
    "a network that fills any memory": (
        lambda f, m: edit(f / "config.json", lambda c: c.update(vocab_size=10**12)),
        "promises 1000000000000 word pieces",
    ),
    "a network of a million blocks": (
        lambda f, m: edit(f / "config.json", lambda c: c.update(num_hidden_layers=10**6)),
        "promises 1000000 blocks",
    ),
    "a task that is a function": (
        manifest(lambda c: c["task"].update(_target_="os.system")),
        "task._target_ is 'os.system', outside the allowed packages",
    ),
    "a model that is another class": (
        manifest(lambda c: c["model"].update(_target_="bluestab.store.store.Store")),
        "which is no Model",
    ),
    "a way up": (
        manifest(lambda c: c["members"][0].update(folder="../../x")),
        "names the folder '../../x': no plain name",
    ),
    "an absolute name": (
        manifest(lambda c: c["members"][0].update(folder="/etc")),
        "names the folder '/etc': no plain name",
    ),
    "a link that leads out": (linked, "a link that leads out of"),
    "a link to nowhere": (
        lambda f, m: (f / "vocab.txt").symlink_to("nowhere"),
        "vocab.txt cannot be read (No such file",
    ),
    "a loop of links": (
        lambda f, m: (f / "vocab.txt").symlink_to("vocab.txt"),
        "vocab.txt cannot be read (Too many levels",
    ),
    "weights that were exchanged": (
        manifest(lambda c: c["members"][0].update(sha256="0" * 64)),
        "is damaged or another one",
    ),
    "a manifest without end": (
        lambda f, m: (f / "bluestab.json").write_text("[" * 10**6) and None,
        "is no JSON",
    ),
    "a kernel of the hub": (
        manifest(lambda c: c["attention"].update(cpu="evil/kernel")),
        "attention {'cpu': 'evil/kernel'",
    ),
    "attention that is no map": (manifest(lambda c: c.update(attention=["cpu"])), "is wrong"),
    "a network wider than its weights": (
        lambda f, m: edit(f / "config.json", lambda c: c.update(intermediate_size=2**18)),
        "model.safetensors holds (64, 32)",
    ),
    "more labels than outputs": (
        lambda f, m: edit(
            f / "config.json", lambda c: c.update(id2label={str(i): str(i) for i in range(9)})
        ),
        "config.json promises classifier.weight of shape (9, 32)",
    ),
    "numbers that are text": (
        lambda f, m: edit(f / "config.json", lambda c: c.update(num_attention_heads="two")),
        "has num_attention_heads 'two': expected a whole number",
    ),
    "a vocabulary that is none": (
        lambda f, m: (f / "tokenizer.json").write_text("{}") and None,
        "holds no tokenizer that can be read",
    ),
    "another version": (manifest(lambda c: c.update(schema=99)), "has schema 99"),
}


@pytest.mark.parametrize("name", POISONS)
def test_a_poisoned_folder_is_refused(folder: Path, cli: Say, tmp_path: Path, name: str) -> None:
    poison, said = POISONS[name]
    mark = tmp_path / "it-ran"
    poison(folder, mark)
    Path("x.txt").write_text("a text\n")
    found = cli("predict", str(folder), "--input", "x.txt", "--output", "o.txt")
    assert found.code == 2
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1, "one sentence"
    assert not mark.exists()
    assert not Path("o.txt").exists()


def test_a_good_folder_with_a_pickle_beside_it(folder: Path, tmp_path: Path) -> None:
    """Only safetensors are read."""
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "it-ran")))
    from bluestab.inference.predictor import Predictor

    Predictor(open_weights([str(folder)], Store(tmp_path)), "cpu")
    assert not (tmp_path / "it-ran").exists()


def test_what_is_not_listed_does_nothing(folder: Path, cli: Say) -> None:
    """Neither kernels of the hub nor a number of labels is taken from a config."""

    def change(content: dict[str, Any]) -> None:
        content.update(_attn_implementation="evil/kernel", num_labels=10**9, dtype="evil")

    Path("x.txt").write_text("a text\n")
    line = ("predict", str(folder), "--input", "x.txt", "--output")
    assert cli(*line, "before.txt").code == 0
    edit(folder / "config.json", change)
    found = cli(*line, "after.txt")
    assert (found.code, found.err) == (0, "")
    assert Path("after.txt").read_bytes() == Path("before.txt").read_bytes()


def test_labels_are_shown_and_not_rendered(folder: Path, cli: Say) -> None:
    """HTML, terminal codes and tabs in label names."""
    evil = "<script>alert(1)</script>\x1b[31m\t[red]x"

    def change(content: dict[str, Any]) -> None:
        content["id2label"] = {"0": evil, "1": f"{evil}2"}
        content["label2id"] = {evil: 0, f"{evil}2": 1}

    edit(folder / "config.json", change)
    Path("x.txt").write_text("a text\n")
    found = cli("predict", str(folder), "--input", "x.txt", "--output", "o.txt")
    assert (found.code, found.err) == (0, "")
    line = Path("o.txt").read_text()
    assert line.count("\t") == 2
    assert "\x1b" not in line + found.out


# --- configs and runs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!python/object/apply:os.system ['touch {mark}']", "is no plain yaml"),
        ("a: ${oc.env:HOME}", "has '${' in a"),
        ("a: [{b: '${x}'}]", "has '${' in a[0].b"),
        ("a: &a [1]\nb: [*a, *a]", "holds an alias (*a)"),
        ("- 1", "holds no map of settings"),
        ("{" * 5000, "is no plain yaml"),
    ],
)
def test_yaml_is_data(tmp_path: Path, text: str, said: str) -> None:
    path, mark = tmp_path / "config.yaml", tmp_path / "it-ran"
    path.write_text(text.replace("{mark}", str(mark)))
    with pytest.raises(ConfigError) as caught:
        plain_files.read_yaml(path)
    assert said in str(caught.value)
    assert not mark.exists()


def test_a_strangers_run(make_run: Make, cli: Say, tmp_path: Path) -> None:
    """Its config.yaml may name no code, and its record may not be changed."""
    run = make_run("task=gad", "model=tiny", *SHORT, "keep=last")
    done(run, tmp_path / "runs")
    path = tmp_path / "runs" / run.key / "config.yaml"
    good = path.read_text()
    Path("x.txt").write_text("a text\n")
    line = ("predict", run.key, "--store", str(tmp_path / "runs"), "--input", "x.txt", "--output")
    for old, new, said in (
        ("bluestab.tasks.classification.Classification", "os.system", "outside the allowed"),
        ("bluestab.tasks.classification.Classification", "subprocess.Popen", "outside the allowed"),
        ("name: gad", "name: ${oc.env:HOME}", "has '${' in task.name"),
    ):
        assert old in good
        path.write_text(good.replace(old, new))
        found = cli(*line, "o.txt")
        assert (found.code, said in found.err) == (2, True), found.err
    path.write_text(good)
    assert cli(*line, "o.txt").code == 0
    record = tmp_path / "runs" / run.key / "record.json"
    record.write_text(record.read_text().replace('"status": "done"', '"status":  "done"'))
    assert "its checksum does not fit" in cli(*line, "o2.txt").err


def test_names_stay_inside(tmp_path: Path) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    (inner / "link").symlink_to(tmp_path)
    assert plain_files.inside(inner, "a/b", "x") == inner / "a" / "b"
    for name in ("../a", "/etc/passwd", "a/../../b", "", "a\\b", "link/x", 3, "a\0b"):
        with pytest.raises(ConfigError, match="x names the file"):
            plain_files.inside(inner, name, "x")


def test_a_model_path_with_code_of_its_own(folder: Path, make_assembly: Make) -> None:
    """`model.path` takes weights of anybody, too."""
    edit(folder / "config.json", lambda c: c.update(auto_map={"AutoModel": "evil.Evil"}))
    with pytest.raises(ConfigError, match="has 'auto_map'"):
        make_assembly("task=gad", "model=tiny", *SHORT, f"model.path={folder}")


def test_a_record_that_lists_files_elsewhere(make_run: Make, tmp_path: Path) -> None:
    from dataclasses import replace

    from bluestab.store.records import to_text
    from bluestab.store.verify import problems

    record = done(make_run("task=gad", "model=tiny", *SHORT), tmp_path / "runs")
    files = {**record.measured["files"], "../../../etc/hostname": "0" * 64}
    lie = replace(record, measured={**record.measured, "files": files})
    (tmp_path / "runs" / record.key / "record.json").write_text(to_text(lie))
    (said,) = problems(Store(tmp_path / "runs"))
    assert "names the file '../../../etc/hostname', which is not inside" in said
