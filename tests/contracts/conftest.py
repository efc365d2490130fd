"""The laboratory that the suites of techniques share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from contracts.witness import Lab


@pytest.fixture(scope="module")
def lab(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLUESTAB_DATA", str(corpora))
        yield Lab(tmp_path_factory.mktemp("checkpoints"))
    torch.set_num_threads(threads)
