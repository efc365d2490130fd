"""What is installed works: from a wheel and from a checkout, each from an empty directory."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """One way to have bluestab: `root` goes on the path, `conf` is where conf/ must be found."""

    root: Path
    conf: Path

    def python(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run Python with `root` and the third-party packages on the path, and nothing else.

        `-S` leaves out the .pth files: an editable install cannot lend its checkout.
        """
        third_party = dict.fromkeys(sysconfig.get_path(p) for p in ("purelib", "platlib"))
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("BLUESTAB_", "PYTHON"))}
        path = os.pathsep.join([str(self.root), *third_party])
        return _run(
            [sys.executable, "-S", *arguments],
            cwd=cwd,
            env={**keep, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"},
        )


def _run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(CHECKOUT)]
    _run(build + (["--no-isolation"] if importlib.util.find_spec("hatchling") else []))
    (built,) = out.glob("bluestab-*.whl")
    return built


@pytest.fixture(scope="module")
def from_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    target = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    _run([*pip, "--target", str(target), str(wheel)])
    return Installed(root=target, conf=target / "bluestab" / "conf")


@pytest.fixture(params=["wheel", "checkout"])
def installed(request: pytest.FixtureRequest) -> Installed:
    if request.param == "checkout":
        return Installed(root=CHECKOUT, conf=CHECKOUT / "conf")
    return request.getfixturevalue("from_wheel")


def test_the_wheel_holds_every_file_of_the_checkout_that_a_run_needs(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())

    def files(folder: str, pattern: str) -> set[str]:
        found = {p.relative_to(CHECKOUT).as_posix() for p in (CHECKOUT / folder).rglob(pattern)}
        assert found, f"nothing in {folder}"
        return found

    inside = {f"bluestab/{f}" for folder in ("conf", "sweeps") for f in files(folder, "*.yaml")}
    assert inside <= shipped
    assert {"bluestab/conf/bluestab.yaml", "bluestab/sweeps/quickstart.yaml"} <= shipped
    assert files("bluestab", "*.py") | files("hydra_plugins", "*.py") <= shipped
    assert (
        files("bluestab/data/corpora", "*.gz") | files("bluestab/data/corpora", "LICENSE")
        <= shipped
    )
    assert files("bluestab/data/converters", "*.txt") <= shipped
    assert "bluestab/py.typed" in shipped
    assert {f"bluestab/{f}" for f in files("notebooks", "*.ipynb")} <= shipped


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"bluestab", "hydra_plugins"}
    # a file here would shut out the plug-ins of every other distribution
    assert "hydra_plugins/__init__.py" not in zipfile.ZipFile(wheel).namelist()


def test_conf_is_found_where_this_installation_has_it(installed: Installed, tmp_path: Path) -> None:
    code = "from bluestab.core import paths; print(paths.conf_dir(), paths.sweeps_dir(), sep='\\n')"
    conf, sweeps = installed.python("-c", code, cwd=tmp_path).stdout.splitlines()
    assert Path(conf).samefile(installed.conf)
    assert Path(sweeps).samefile(installed.conf.parent / "sweeps")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("--help", "run"),
        ("run --info plugins", "Installed Hydra Plugins"),
        ("list task", "ncbi_disease"),
    ],
)
def test_a_command_works_in_an_empty_directory(
    installed: Installed, tmp_path: Path, command: str, expected: str
) -> None:
    done = installed.python("-m", "bluestab", *command.split(), cwd=tmp_path)
    assert expected in done.stdout
    assert list(tmp_path.iterdir()) == [], "a command that only looks leaves nothing behind"
