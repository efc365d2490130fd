"""Reinitialising: what is drawn anew when only layer norms are."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


from bluestab.testing.laboratory import Lab  # noqa: E402
from bluestab.testing.technique_arms import chosen  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*use_fork_emulation")


@pytest.mark.parametrize("model", ["tiny", "tiny_electra", "tiny_modernbert"])
def test_reinit_of_layernorms_only(lab: Lab, model: str) -> None:
    knobs = chosen("reinit", reinit__layernorms_only="true")
    assembly, seen = lab.trained("gad", model, *knobs)
    norms = {n for n in seen.changed if "norm" in n.lower()}
    assert set(seen.changed) == norms
    blocks = {n for n in norms if ".layer.1." in n or "layers.1." in n}
    assert len(blocks) == (4 if model != "tiny_modernbert" else 2)
    assert norms - blocks == ({"model.final_norm.weight"} if model == "tiny_modernbert" else set())
    for name in norms:
        value = 0.0 if name.endswith("bias") else 1.0
        assert torch.equal(seen.start[name], torch.full_like(seen.start[name], value))
    assert assembly.built.fresh >= norms
    assert assembly.effects()["reinit"]["changed_tensors"] == len(norms)
