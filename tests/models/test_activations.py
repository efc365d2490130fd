"""Saved activations in fewer bytes: each part's error against exact gradients, and its bytes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from bluestab.models import quantised  # noqa: E402
from bluestab.models.activations import Compression, saving  # noqa: E402

Tensors = list[Any]
FULL = Compression(None, None, None, None)
DTYPES = [torch.float32, torch.bfloat16]
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


class Counting:
    """An observer that adds up."""

    def __init__(self) -> None:
        self.unpacked, self.bytes, self.tensors = 0, 0, 0

    def hold(self, x: Any) -> int:
        self.bytes += x.untyped_storage().nbytes()
        self.tensors += 1
        return 0

    def release(self, place: int) -> None:
        self.tensors -= 1


def random(*shape: int, dtype: Any = None, seed: int = 0, scale: float = 1.0) -> Any:
    found = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    return found.to(dtype or torch.float32)


def gradients(
    compute: Callable[..., Any], inputs: Tensors, how: Compression | None, counted: Any = None
) -> tuple[Any, Tensors]:
    """Output and gradients of the inputs, of a loss whose gradient is not the same everywhere."""
    inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    with saving(how, counted):
        output = compute(*inputs)
    (output.float() * random(*output.shape, seed=9)).sum().backward()
    return output.detach(), [x.grad for x in inputs]


def both(compute: Callable[..., Any], inputs: Tensors, how: Compression) -> Iterator[Any]:
    """(exact, compressed) gradient of each input; the forward pass has the same bits."""
    plain, exact = gradients(compute, inputs, None)
    output, found = gradients(compute, inputs, how)
    assert torch.equal(plain, output)
    yield from zip(exact, found, strict=True)


def outer(shape: tuple[int, ...]) -> Any:
    return random(*shape, seed=9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("function", ["gelu", "gelu_tanh", "silu"])
def test_the_derivative_of_an_activation_is_met_within_its_bound(
    function: str, bits: int, dtype: Any
) -> None:
    compute, variation = {
        "gelu": (functional.gelu, 1.52),
        "gelu_tanh": (lambda x: functional.gelu(x, approximate="tanh"), 1.52),
        "silu": (functional.silu, 1.40),
    }[function]
    x = torch.cat([random(5000, scale=2), torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4])])
    x = x.to(dtype).requires_grad_()
    ((exact, found),) = both(compute, [x], Compression(bits, None, None, None))
    error = (exact.float() - found.float()).abs()
    bound = variation / 2 ** (bits + 1) + 2e-4
    assert bool((error <= bound * outer(x.shape).abs() + ROUNDING[dtype]).all())
    assert float(error.max()) > 0, "it is compressed"


def attention(q: Any, k: Any, v: Any) -> Any:
    scores = torch.matmul(q, k.transpose(2, 3)) * q.shape[-1] ** -0.5
    return torch.matmul(functional.softmax(scores, dim=-1), v)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_of_attention_is_within_its_bound(dtype: Any) -> None:
    """The gradient of one operand is the outer gradient times the other, quantised."""
    a, b = (random(2, 3, 40, 16, dtype=dtype, seed=s).requires_grad_() for s in (1, 2))
    how = Compression(None, 8, None, None)
    (exact_a, found_a), (exact_b, found_b) = both(lambda x, y: x @ y.transpose(2, 3), [a, b], how)
    g = outer((2, 3, 40, 40)).to(dtype).float().abs()
    step_a, step_b = (float(x.max() - x.min()) / 255 for x in (a.detach(), b.detach()))
    slack = 1 + ROUNDING[dtype]
    for exact, found, half, sums in (
        (exact_a, found_a, step_b / 2, g.sum(dim=3)),
        (exact_b, found_b, step_a / 2, g.sum(dim=2)),
    ):
        error = (exact.float() - found.float()).abs()
        limit = half * sums[..., None] * slack + ROUNDING[dtype] * exact.float().abs()
        assert bool((error <= limit).all())
        assert float(error.max()) > 0


@pytest.mark.parametrize("kernel", ["eager", "sdpa", "sdpa with dropout"])
def test_attention_as_a_whole_is_close(kernel: str) -> None:
    q, k, v = (random(2, 4, 64, 16, seed=s).requires_grad_() for s in (1, 2, 3))

    def compute(q: Any, k: Any, v: Any) -> Any:
        torch.manual_seed(0)
        if kernel == "eager":
            return attention(q, k, v)
        p = 0.1 if "dropout" in kernel else 0.0
        return functional.scaled_dot_product_attention(q, k, v, dropout_p=p)

    for exact, found in both(compute, [q, k, v], Compression(None, 8, None, None)):
        error = torch.linalg.vector_norm(exact - found) / torch.linalg.vector_norm(exact)
        assert 0 < float(error) < 0.05


def test_the_wide_input_is_within_its_bound_and_only_while_its_layer_trains() -> None:
    x = random(8, 40, 64, seed=1).requires_grad_()
    weight, bias = random(16, 64, seed=2, scale=0.1).requires_grad_(), random(16).requires_grad_()
    how = Compression(None, None, 8, None)
    (ex, fx), (ew, fw), (eb, fb) = both(functional.linear, [x, weight, bias], how)
    assert torch.equal(ex, fx)
    assert torch.equal(eb, fb)
    g = outer((8, 40, 16)).abs().sum(dim=(0, 1))
    half = float(x.detach().max() - x.detach().min()) / 255 / 2
    error = (ew - fw).abs()
    assert bool((error <= half * g[:, None] * 1.001 + 1e-4).all())
    assert float(error.max()) > 0
    head = random(2, 64, seed=2).requires_grad_()  # narrows more than a feed-forward layer does
    for exact, found in both(functional.linear, [x, head], how):
        assert torch.equal(exact, found)
    counted = Counting()
    gradients(functional.linear, [x, weight.detach(), bias], how, counted)
    assert counted.bytes <= weight.numel() * 4, "the input of a frozen layer is not saved at all"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_pruned_norm_is_within_its_bound(share: float, dtype: Any) -> None:
    n = 64
    x, bias = random(8, 40, n, dtype=dtype, seed=1).requires_grad_(), random(n).requires_grad_()
    weight = random(n, seed=2)
    bias, weight = bias.to(dtype).detach().requires_grad_(), weight.to(dtype)

    def compute(x: Any, weight: Any, bias: Any) -> Any:
        return functional.layer_norm(x, (n,), weight, bias, 1e-12)

    how = Compression(None, None, None, share)
    (ex, fx), _, (eb, fb) = both(compute, [x, weight, bias], how)
    assert torch.linalg.vector_norm(eb.float() - fb.float()) <= ROUNDING[dtype] * 2 * (
        torch.linalg.vector_norm(eb.float())
    )
    wide = x.detach().float()
    scale = torch.rsqrt(wide.var(dim=-1, correction=0) + 1e-12)
    z = (wide - wide.mean(dim=-1, keepdim=True)) * scale[..., None]
    lost = z.abs().sort(dim=-1).values[..., : n - round(share * n)]
    weighted = torch.linalg.vector_norm(outer((8, 40, n)) * weight.float(), dim=-1)
    bound = 2 * scale * weighted * torch.linalg.vector_norm(lost, dim=-1) / math.sqrt(n)
    error = torch.linalg.vector_norm(ex.float() - fx.float(), dim=-1)
    assert bool((error <= bound + ROUNDING[dtype] * weighted * scale).all())
    assert float(error.max()) > 0


def test_a_norm_that_trains_is_exact() -> None:
    x, weight = random(8, 40, 64).requires_grad_(), random(64, seed=2).requires_grad_()

    def compute(x: Any, weight: Any) -> Any:
        return functional.layer_norm(x, (64,), weight)

    for exact, found in both(compute, [x, weight], Compression(4, 8, 8, 0.1)):
        assert torch.equal(exact, found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mask_of_dropout_is_exact_in_a_thirtysecond_of_the_bytes(dtype: Any) -> None:
    x = random(33, 101, dtype=dtype).requires_grad_()

    def compute(x: Any) -> Any:
        torch.manual_seed(0)
        return functional.dropout(x, 0.3, training=True)

    for exact, found in both(compute, [x], FULL):
        assert torch.equal(exact, found)
    counted = Counting()
    gradients(compute, [x], FULL, counted)
    assert counted.bytes <= math.ceil(x.numel() / 8) + 8
    assert counted.tensors == 0, "nothing is held after the backward pass"


@pytest.mark.parametrize("n", [1, 2, 7, 8, 1023])
def test_packing_into_bytes_loses_nothing(n: int) -> None:
    codes = torch.randint(0, 16, (n,), dtype=torch.uint8)
    flags = codes > 7
    assert torch.equal(quantised.from_nibbles(quantised.to_nibbles(codes), n), codes)
    assert torch.equal(quantised.from_bits(quantised.to_bits(flags), n), flags)
    assert quantised.to_nibbles(codes).numel() == math.ceil(n / 2)
    assert quantised.to_bits(flags).numel() == math.ceil(n / 8)


@pytest.mark.parametrize(("bits", "x"), list(itertools.product((4, 8), (0.0, 3.0, -1e30))))
def test_a_constant_is_exact_and_what_is_not_finite_stays_so(bits: int, x: float) -> None:
    constant = torch.full((2000,), x)
    assert torch.equal(quantised.Quantised.of(constant, bits).restored(), constant)
    broken = torch.cat([constant, torch.tensor([math.nan])])
    assert not bool(torch.isfinite(quantised.Quantised.of(broken, bits).restored()).any())


def test_small_tensors_and_integers_are_left_alone() -> None:
    x = random(4, 4, 4, 4).requires_grad_()
    for exact, found in both(lambda x: functional.softmax(x, -1), [x], Compression(4, 4, 4, 0.1)):
        assert torch.equal(exact, found)
    table = nn.Embedding(10, 64)
    with saving(Compression(4, 8, 8, 0.1), Counting()):
        table(torch.zeros((40, 40), dtype=torch.long)).sum().backward()
    assert float(table.weight.grad[0, 0]) == 1600
