"""A release as it could go out: `make release`. Builds sdist and wheel into dist/, and checks both.

    BLUESTAB_FILES_URL=URL make release
        where the files of this commit are served raw, for pictures and links on a package index;
        without it they are left out
    make release SEEDS=3
        seeds of the quickstart in each fresh environment

Nothing is uploaded. Raises AssertionError, or exits 1, at the first thing that is wrong.
"""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
PYTHONS = ("3.11", "3.12", "3.13")
LEFT_OUT = re.compile(r"\.gitignore|\.github/.*")
"""Files of the repository that the sdist need not hold."""
ADDED = {"PKG-INFO", ".gitignore"}
"""What hatchling puts into every sdist."""


def version() -> str:
    """The version, which three files must agree on."""
    said: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changes = re.findall(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = re.findall(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert (changes[:1], cited) == ([said], [said]), (
        f"pyproject.toml has version {said}, CHANGELOG.md begins with {changes[:1]}, CITATION.cff "
        f"has {cited}"
    )
    return said


def run(*command: object, cwd: Path = ROOT, quiet: bool = True) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    if not quiet:
        print(done.stdout)
    return done.stdout


def build(said: str) -> tuple[Path, Path]:
    """The wheel is built from the sdist, so that it shows the sdist to be complete."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST)
    sdist, wheel = DIST / f"bluestab-{said}.tar.gz", DIST / f"bluestab-{said}-py3-none-any.whl"
    assert {*DIST.iterdir()} == {sdist, wheel}, [*DIST.iterdir()]
    return sdist, wheel


def check_sdist(sdist: Path) -> None:
    """It holds every file of the repository, and nothing that was made by a tool."""
    with tarfile.open(sdist) as archive:
        held = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    tracked = {*run("git", "ls-files").splitlines()}
    missing = {f for f in tracked - held if not LEFT_OUT.fullmatch(f)}
    assert not missing, f"not in the sdist: {sorted(missing)}"
    assert held - tracked <= ADDED, f"only in the sdist: {sorted(held - tracked)}"
    print(f"sdist: {len(held)} files, {sdist.stat().st_size / 1e6:.1f} MB")


def check_wheel(wheel: Path, said: str) -> None:
    """Its metadata, and that no picture or link of the long description leads nowhere."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        text = archive.read(f"bluestab-{said}.dist-info/METADATA").decode()
    metadata = email.message_from_string(text)
    assert metadata["Version"] == said
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    body = metadata.get_payload()
    relative = re.findall(r"\]\((?!https?://|#)([^)]+)\)", str(body))
    assert not relative, f"relative in the long description: {relative}"
    assert len(str(body)) > 3000
    print(f"wheel: {len(names)} files, {wheel.stat().st_size / 1e6:.1f} MB")
    print(run(sys.executable, "-m", "twine", "check", "--strict", *sorted(DIST.iterdir())).strip())
    if "BLUESTAB_FILES_URL" not in os.environ:
        print("no BLUESTAB_FILES_URL: pictures and links are left out of the long description")


def pythons() -> Iterator[tuple[str, str]]:
    """Version and path of each interpreter that is here; the others are said."""
    for number in PYTHONS:
        path = shutil.which(f"python{number}")
        works = path and not subprocess.run([path, "-c", ""], capture_output=True).returncode
        if path and works:
            yield number, path
        else:
            print(f"Python {number}: untested, there is no python{number} on the PATH")


def check_installed(wheel: Path, number: str, python: str, said: str, seeds: str) -> None:
    """Into a fresh environment, in an empty folder: version, lists, the quickstart, its report."""
    with tempfile.TemporaryDirectory(prefix="bluestab-release-") as folder:
        root = Path(folder)
        run(python, "-m", "venv", root / "venv")
        pip = (root / "venv/bin/python", "-m", "pip", "install", "--quiet")
        run(*pip, "-c", ROOT / "constraints.txt", f"{wheel}[embedded]")
        work, bluestab = root / "empty", root / "venv/bin/bluestab"
        work.mkdir()
        assert run(bluestab, "--version", cwd=work).strip() == f"bluestab {said}"
        assert "llrd" in run(bluestab, "list", "technique", cwd=work)
        assert not [*work.iterdir()], "a command that only looks leaves something behind"
        run(bluestab, "run", "-m", "+sweeps=quickstart", f"sweep.seeds={seeds}", cwd=work)
        assert (work / "report/quickstart/report.html").is_file()
    print(f"Python {number}: installed, quickstart with {seeds} seeds ran")


def main() -> None:
    said = version()
    sdist, wheel = build(said)
    check_sdist(sdist)
    check_wheel(wheel, said)
    for number, python in pythons():
        check_installed(wheel, number, python, said, sys.argv[1] if len(sys.argv) > 1 else "1")
    print(f"bluestab {said} could go out: {DIST}")


if __name__ == "__main__":
    main()
