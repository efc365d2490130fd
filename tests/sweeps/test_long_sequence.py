"""Ten tasks of a person's own, one after another: what is held in memory, and how many steps."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.models.built import Built  # noqa: E402
from bluestab.models.curvature import Curvature  # noqa: E402
from bluestab.models.earlier import EarlierTask  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.training.assemble import assemble  # noqa: E402
from tests.sweeps.test_plan import alone  # noqa: E402

N_TASKS, N_ITEMS = 10, 64
ARMS = "none,ewc,er,kfac_ewc"


def write_task(name: str, seed: int) -> list[str]:
    """64 training texts in which one of two words says the class; the options that read them."""
    draw = random.Random(seed)
    options = []
    for split, n in (("train", N_ITEMS), ("validation", 8), ("test", 8)):
        file = Path(f"{name}-{split}.csv")
        with file.open("w", newline="", encoding="utf-8") as out:
            table = csv.writer(out)
            table.writerow(["text", "label"])
            for number in range(n):
                words = [draw.choice("abcdefghij") for _ in range(6)]
                word = f"word{seed}{number % 2}"
                table.writerow([" ".join([*words, word]), f"class {number % 2}"])
        options.append(f"task.{split}={file}")
    return options


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Those that an object holds, however deep; what it may make later is none of them."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, torch.nn.Module):
        yield from value.state_dict(keep_vars=True).values()
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from tensors(inner)
    elif isinstance(value, EarlierTask):
        yield from tensors(value.network)
    elif isinstance(value, Curvature):
        yield from (factor for block in value.blocks for factor in block.factors())


def held_bytes(technique: Any, built: Built) -> int:
    """Of storages that the technique holds and the network in training does not."""
    own = {p.untyped_storage().data_ptr() for p in built.model.parameters()}
    own |= {p.untyped_storage().data_ptr() for p in built.reference.values()}
    found = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in tensors(vars(technique))
    }
    return sum(size for at, size in found.items() if at not in own)


@pytest.mark.slow
def test_ten_tasks(cli: Callable[..., Any]) -> None:
    """Steps are those of one stage; what online EWC, a bounded buffer and no technique hold does
    not grow but by the heads of earlier tasks; factors kept per task grow by their own bytes."""
    names = [f"own{number}" for number in range(N_TASKS)]
    for seed, name in enumerate(names):
        said = cli(
            *("inspect", "task=classification", *write_task(name, seed)),
            *("--examples", "0", "--save-as", name),
        )
        assert said.code == 0, said.err
    Path("conf/sequence").mkdir(parents=True)
    Path("conf/sequence/ten.yaml").write_text(
        f"# Ten.\ntasks: [{', '.join(names)}]\norders: 1\norder_seed: 0\nfrom: last\n"
        "keep_data: true\n"
    )
    line = (
        *("-m", "+sequence=ten", "model=tiny", "device=cpu", f"technique={ARMS}", "sweep.seeds=1"),
        *("technique.ewc.anchors=online", "technique.er.buffer_size=32", "optim.batch_size=32"),
        *("optim.epochs=1", "task.max_length=16", "keep=last"),
    )
    said = cli("check", *line, "hydra.launcher.dry_step=false")
    assert said.code == 0, said.err
    assert "37 runs in 37 cells" in said.out
    assert cli("run", *line, "hydra/launcher=local").code == 0
    store = Store("runs")
    (manifest,) = store.whole_manifests()
    stages: dict[str, dict[int, Any]] = defaultdict(dict)
    for entry in manifest["runs"]:
        record = store.read(entry["key"])
        assert record.status == "done", record.result["error"]
        technique = "+".join(record.measured["names"]["technique"]) or "none"
        number = 1 + len(record.result.get("earlier", ()))
        stages[technique][number] = (record, entry["overrides"])
    assert {name: sorted(own) for name, own in stages.items()} == {
        "none": list(range(1, 11)),
        **{name: list(range(2, 11)) for name in ("ewc", "er", "kfac_ewc")},
    }
    assert {r.result["steps"] for own in stages.values() for r, _ in own.values()} == {2}
    kept = {
        name: [stages[name][n][0].result["effects"][name]["numbers_kept"] for n in range(2, 11)]
        for name in ("ewc", "kfac_ewc")
    }
    assert len({*kept["ewc"]}) == 1, "online: one Fisher and one anchor, however many tasks"
    assert kept["kfac_ewc"] == [n * kept["kfac_ewc"][0] for n in range(1, 10)]
    for name in ("ewc", "er", "kfac_ewc"):
        held = {n: _held(stages[name][n][1], name) for n in (2, 6, 10)}
        if name == "kfac_ewc":
            assert held[2] == 4 * kept[name][0]
            assert held[10] == 9 * held[2]
        elif name == "ewc":
            assert held[2] == held[6] == held[10] == 4 * kept[name][0]
        else:  # a head per task, and what stands above the blocks
            assert held[10] - held[6] == held[6] - held[2]
            assert held[10] - held[6] < 4 * 5_000 * 4


def _held(overrides: list[str], name: str) -> int:
    run = alone(overrides)
    assembly = assemble(run, device=torch.device("cpu"), progress=lambda *_: None)
    return held_bytes(assembly.techniques[name], assembly.built)
