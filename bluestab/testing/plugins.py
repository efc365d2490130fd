"""What the suites of all kinds share: where the plug-in that they try is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from omegaconf import OmegaConf

from bluestab.core.paths import conf_dir, own_conf_dir
from bluestab.testing.corpora import write_corpora


class Suite:
    """A child says where its plug-in is, if that is not where the command line finds it.

    conf   folder with the yamls technique/, task/, hydra/launcher/, logger/; None: ./conf of the
           folder in which pytest runs, or $BLUESTAB_CONF
    allow  package that the yamls may name beside bluestab, as in BLUESTAB_ALLOW
    """

    conf: ClassVar[Path | None] = None
    allow: ClassVar[str] = ""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def surroundings(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """The yamls of the plug-in, and small corpora in place of the published ones."""
        with pytest.MonkeyPatch.context() as patch:
            if cls.conf is not None:
                patch.setenv("BLUESTAB_CONF", str(cls.conf))
            if cls.allow:
                patch.setenv("BLUESTAB_ALLOW", cls.allow)
            patch.delenv("BLUESTAB_STORE", raising=False)
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def small_corpora(
        cls, surroundings: None, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Path]:
        """The folder with small corpora, which tasks find while a test of the suite runs."""
        folder = write_corpora(tmp_path_factory.mktemp("corpora"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BLUESTAB_DATA", str(folder))
            yield folder


def yaml_of(group: str, name: str) -> Path:
    """The file of a plug-in, a person's own first. Raises FileNotFoundError naming the folders."""
    folders = [Path.cwd() / "conf", *filter(None, [own_conf_dir()]), conf_dir()]
    for folder in folders:
        if (folder / group / f"{name}.yaml").is_file():
            return folder / group / f"{name}.yaml"
    raise FileNotFoundError(
        f"no {group}/{name}.yaml in {', '.join(map(str, folders))}; name the folder in `conf`"
    )


def node(file: Path) -> Any:
    """What a yaml holds, as plain containers."""
    return OmegaConf.to_container(OmegaConf.load(file))
