"""Importances of weights, measured and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import StoreError  # noqa: E402
from bluestab.core.types import IMPORTANCES  # noqa: E402
from bluestab.models.earlier import lasting_names  # noqa: E402
from bluestab.models.importance import Importance, read_curvature, write_curvature  # noqa: E402
from tests.support.earlier_toy import earlier  # noqa: E402

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", IMPORTANCES)
def test_written_and_read_curvature_is_equal(name: str, tmp_path: Path) -> None:
    """To the last bit, of every parameter and no other, in the same order."""
    for task in earlier():
        names = lasting_names(task)
        assert names == ["bert.embeddings.weight", "bert.encoder.layer.0.dense.weight",
                         "bert.encoder.layer.0.dense.bias", "classifier.weight",
                         "classifier.bias"]  # fmt: skip
        found = Importance.named(name).measure(task, names)
        write_curvature(found, tmp_path / name)
        again = read_curvature(tmp_path / name, CPU)
        assert [type(block) for block in again.blocks] == [type(block) for block in found.blocks]
        assert set(again.names) == set(names)
        assert again.names == found.names
        for one, other in zip(found.blocks, again.blocks, strict=True):
            assert all(map(torch.equal, one.factors(), other.factors()))
        assert Importance.named(name).name == name


def test_weighted_and_sensitivity_are_their_formulas() -> None:
    """Item by item, by autograd, in float64."""
    for task in earlier():
        parameters = {n: task.network.get_parameter(n) for n in lasting_names(task)}
        expected = {kind: dict.fromkeys(parameters, 0.0) for kind in ("weighted", "sensitivity")}
        for row in range(task.size):
            item = task.batch([row])
            logits = task.network(item["input_ids"], item["attention_mask"]).logits
            real = logits[item["attention_mask"].bool()] if logits.ndim == 3 else logits
            log_p = -task.loss(logits, item)
            for kind, scalar in (("weighted", log_p), ("sensitivity", real.square().sum())):
                gradients = torch.autograd.grad(scalar, parameters.values(), retain_graph=True)
                for name, g in zip(parameters, gradients, strict=True):
                    value = g.abs() if kind == "sensitivity" else log_p.detach().exp() * g.square()
                    expected[kind][name] = expected[kind][name] + value / task.size
        for kind, wanted in expected.items():
            found = Importance.named(kind).measure(task, lasting_names(task))
            for block in found.blocks:
                torch.testing.assert_close(block.f, wanted[block.name], rtol=1e-9, atol=1e-15)


def test_a_part_of_a_block_is_refused() -> None:
    task = earlier()[0]
    found = Importance.named("kronecker-gold-expand").measure(task, lasting_names(task))
    weight, bias = "bert.encoder.layer.0.dense.weight", "bert.encoder.layer.0.dense.bias"
    assert found.of([weight, bias]).names == (weight, bias)
    assert found.of([]).names == ()
    with pytest.raises(ValueError, match="have one block"):
        found.of([weight])


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    task, file = earlier()[0], tmp_path / "importance"
    write_curvature(Importance.named("sensitivity").measure(task, lasting_names(task)), file)
    whole = file.read_bytes()
    for content in (b"", whole[:-9], whole[:60], whole.replace(b"Diagonal", b"Diagonel"),
                    whole.replace(b'0.f', b'9.f')):  # fmt: skip
        assert content != whole
        file.write_bytes(content)
        with pytest.raises(StoreError, match=r"cannot be used.*delete it"):
            read_curvature(file, CPU)
    with pytest.raises(StoreError, match="cannot be used"):
        read_curvature(tmp_path / "none", CPU)
