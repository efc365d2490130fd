"""What a yaml may say of a file to be brought: names and addresses that are safe."""

from __future__ import annotations

from typing import Any

import pytest

from bluestab.core.errors import ConfigError
from bluestab.data.remotes import Remote, is_safe, remotes, url_problem
from tests.support.published_files import entry

TRICKS = [
    "../x",
    "a/../x",
    "/etc/passwd",
    "a//b",
    "./a",
    "a/",
    ".hidden",
    "a\\b",
    "~/x",
    "a/.b",
    "..",
    "ä.tsv",
]


@pytest.mark.parametrize("name", [*TRICKS, "", "a\nb", "a b", 3])
def test_tricks_in_names(name: object) -> None:
    assert not is_safe(name)
    node = {"convert": None, "files": [entry(file=name)]}
    with pytest.raises(ConfigError, match=r"fetch\.files\[0\]\.file is"):
        remotes(node)


UNUSED = [
    "http://a.org/x",
    "ftp://a.org/x",
    "file:///x",
    "https://",
    "a.org/x",
    "https://[x",
    "HTTP://a.org/",
]


@pytest.mark.parametrize("url", [*UNUSED, "http://localhost.a.org/", "http://a@b:c/", "", 3])
def test_addresses_that_are_not_used(url: object) -> None:
    assert url_problem(url)
    with pytest.raises(ConfigError, match=r"fetch\.files\[0\]\.url"):
        remotes({"convert": None, "files": [entry(url=url)]})


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"files": []}, "expected the keys convert and files"),
        ("x", "expected the keys"),
        ({"convert": "a.b", "files": []}, "task.fetch.convert is 'a.b'"),
        ({"convert": None, "files": None}, "expected a list"),
        ({"convert": None, "files": [entry(sha256="abc")]}, "expected 64 hex digits"),
        ({"convert": None, "files": [entry(sha256=None)]}, "needs its hash"),
        ({"convert": None, "files": [entry(bytes=0)]}, "a number of bytes >= 1"),
        ({"convert": None, "files": [entry(bytes=True)]}, "a number of bytes >= 1"),
        ({"convert": None, "files": [entry(url=[])]}, "expected an address"),
        ({"convert": None, "files": [{"file": "a"}]}, "expected the keys file, url"),
        ({"convert": None, "files": [entry(), entry()]}, "names a.tsv twice"),
    ],
)
def test_malformed_fetch(node: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        remotes(node)
    assert said in str(caught.value)


def test_what_is_allowed() -> None:
    assert remotes(None) == remotes({"convert": None, "files": []}) == ()
    (one,) = remotes({"convert": "x", "files": [entry(sha256=None, bytes=None)]})
    assert one == Remote("a.tsv", ("https://a.org/a",), None, None)
    (two,) = remotes({"convert": None, "files": [entry(url=["https://a.org/a", "https://b.org"])]})
    assert two.urls == ("https://a.org/a", "https://b.org")
    assert url_problem("http://localhost:80/x") is None
    assert all(map(is_safe, ["train.tsv", "conll/train.tsv", "a-b/c_d+e.1.json"]))
