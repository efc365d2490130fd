"""Passwords, tokens and keys are found in whatever form they come, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from bluestab.core import secrets
from bluestab.core.config import compose, filled, resolved
from bluestab.core.errors import ConfigError

URLS = {
    "http://bob:s3cret@host:5000/x": "http://bob:***@host:5000/x",
    "http://bob:s3c/ret@host/x": "http://bob:***@host/x",
    "http://bob:12/s3cret@host/x": "http://bob:***@host/x",
    "http://bob:s3@cret@host/x": "http://bob:***@host/x",
    "http://bob:s3@c/ret@host/x": "http://bob:***@host/x",
    "http://bob:s3?c#ret@host": "http://bob:***@host",
    "http://bob:s3'cret\"x@host": "http://bob:***@host",
    "http://bob:%73%33cret@host": "http://bob:***@host",
    "http://:s3cret@host": "http://:***@host",
    "https://s3cret@host/a": "https://***@host/a",
    "git+https://s3cret@host/a": "git+https://***@host/a",
    "https://hf_s3cret:x@host/a": "https://***@host/a",
    "https://s3cret:x-oauth-basic@host/a": "https://***@host/a",
    "https://s3cret:@host/a": "https://***@host/a",
    "postgresql+psycopg://me:s3cret@[::1]:5432/db": "postgresql+psycopg://me:***@[::1]:5432/db",
    "https://host/a?password=s3cret": "https://host/a?password=***",
    "https://host/a?x=1&token=s3cret&y=2": "https://host/a?x=1&token=***&y=2",
    "https://host/a?api_key=s3cret": "https://host/a?api_key=***",
    "https://host/a?Api-Key=s3cret": "https://host/a?Api-Key=***",
    "https://host/a?api%5Fkey=s3cret": "https://host/a?api%5Fkey=***",
    "https://host/a?sig=s3cret&se=2": "https://host/a?sig=***&se=2",
    "https://host/a#access_token=s3cret": "https://host/a#access_token=***",
    "https://host/a?X-Amz-Credential=s3cret&b=1": "https://host/a?X-Amz-Credential=***&b=1",
    "jdbc:postgresql://host/db?user=a&password=s3cret": (
        "jdbc:postgresql://host/db?user=a&password=***"
    ),
}
INNOCENT = (
    "http://host:5000/a", "https://a/b@c", "https://hub.org/repo@v1.2/file", "file:///a/b@c",
    "sqlite:///runs/x.db", "sqlite:////tmp/a@b.db", "postgresql://me@host/db", "ssh://git@host/a",
    "http://[::1]:5000/a", "http://localhost:5000/a@b", "pad_token=[PAD] eval_tokens=512",
    "technique=[llrd,freeze]", "optim.lr=1e-5", "key=0123456789abcdef", "task.text=token",
    "http://HOST:PORT of a server", "trainer.eval_tokens=4096", "a token: 'x'", "mail a@b.org",
    "logger.mlflow.uri=${oc.env:URI}", "http://${oc.env:A}:${oc.env:B}@host", "token=${oc.env:T}",
    "password=null", "no secrets: none", "2026-01-01 12:00:00 INFO bluestab: step 3, score 0.5",
)  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_urls(url: str) -> None:
    assert secrets.cleaned(url) == URLS[url]
    assert secrets.cleaned(secrets.cleaned(url)) == URLS[url], "twice is once"
    for text in (f"see {url} there", f"logger.mlflow.uri={url}", f"a\n{url}\nb"):
        assert "s3c" not in secrets.cleaned(text)
    assert secrets.cleaned_value(f"logger.mlflow.uri={url}") == f"logger.mlflow.uri={URLS[url]}"


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert secrets.cleaned(text) == text
    assert secrets.cleaned_value(text) == text
    assert secrets.cleaned_command(text) == text
    assert secrets.cleaned_tree({"a": [text]}) == {"a": [text]}


@pytest.mark.parametrize(
    "line",
    [
        "bluestab run logger.own.api_key=s3cret",
        "bluestab run 'logger.mlflow.uri=http://bob:s3 c ret@host/x'",
        'bluestab run \'logger.mlflow.uri="http://bob:s3\\"cret@host/x"\'',
        "bluestab search --storage postgresql://me:s3cret@host/db",
        "bluestab search --password s3cret",
        "HF_TOKEN=s3cret bluestab run",
        "PGPASSWORD='s3 cret' bluestab run",
        "bluestab run 'logger.own.dsn=host=h password=s3cret user=me'",
        "bluestab run 'logger.mlflow.uri=http://a:s3c@h,http://b:s3c@i'",
        "an unfinished 'quote http://bob:s3cret@host",
    ],
)
def test_command_lines(line: str) -> None:
    found = secrets.cleaned_command(line)
    assert "s3" not in found
    assert "ret" not in found
    assert secrets.cleaned_command(found) == found


def test_texts_and_trees() -> None:
    for text in (
        '{"api_key": "s3cret"}', "{'hf_token': 's3cret'}", "  password: s3cret",
        "Authorization: Bearer s3cretlong", '"Authorization": "Basic czNjcmV0"',
        "secret_access_key = x\naws_secret_access_key=s3cret",
    ):  # fmt: skip
        found = secrets.cleaned(text)
        assert "s3cret" not in found, found
        assert "czNjcmV0" not in found
        assert secrets.cleaned(found) == found
    tree = {"logger": {"own": {"api_key": "s3cret", "url": "http://a:s3@cret@b", "n": 3}}}
    assert secrets.cleaned_tree(tree) == {
        "logger": {"own": {"api_key": "***", "url": "http://a:***@b", "n": 3}}
    }


def test_what_comes_from_the_environment_is_stored_as_it_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through another value, too; and knobs that enter the key are stored with their values."""
    monkeypatch.setenv("OWN_URI", "http://s3cret.example")
    monkeypatch.setenv("OWN_LR", "0.5")
    overrides = [
        "logger=mlflow", "logger.mlflow.uri=${oc.env:OWN_URI}",
        "logger.mlflow.experiment=${logger.mlflow.uri}",
    ]  # fmt: skip
    composed = compose(overrides)
    composed.optim.lr = "${oc.decode:${oc.env:OWN_LR}}"
    cfg = resolved(composed)
    assert cfg["logger"]["mlflow"]["uri"] == "http://s3cret.example"
    found = secrets.stored(cfg)
    assert found["logger"]["mlflow"]["uri"] == "${oc.env:OWN_URI}"
    assert found["logger"]["mlflow"]["experiment"] == "${oc.env:OWN_URI}"
    assert found["optim"]["lr"] == 0.5
    assert secrets.REFERENCES not in found
    assert secrets.literals(cfg) == []
    again = filled(found)
    assert again == cfg
    monkeypatch.delenv("OWN_URI")
    with pytest.raises(ConfigError, match=r"logger\.mlflow\.uri.*OWN_URI.*set the variable"):
        filled(found)
    assert resolved(compose(["store=runs"])).keys() & {secrets.REFERENCES} == set()


def test_what_decides_the_key_is_stored_as_it_is() -> None:
    cfg = {
        "task": {"kind": "http://a:b@c", "train": "http://a:b@c"},
        "technique": {"x": {"token": "b"}},
        "logger": {"own": {"uri": "http://a:b@c"}},
    }
    assert secrets.stored(cfg) == {
        "task": {"kind": "http://a:b@c", "train": "http://a:***@c"},
        "technique": {"x": {"token": "b"}},
        "logger": {"own": {"uri": "http://a:***@c"}},
    }
    assert secrets.literals(cfg) == ["logger.own.uri"]


def test_files_of_this_repository_hold_none() -> None:
    """What a config, a sweep or a table of ours says is never taken for a secret."""
    root = Path(__file__).parents[2]
    for folder in ("conf", "sweeps"):
        for file in sorted((root / folder).rglob("*.yaml")):
            text = file.read_text(encoding="utf-8")
            assert secrets.cleaned(text) == text, file
