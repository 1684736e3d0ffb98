"""Matrix products of the models, by the fastest exact float32 library on this machine.

On a CPU torch multiplies float32 matrices with MKL, which leaves half the speed of an AMD Zen 5 unused, and a tenth of a Zen 4's. oneDNN,
which torch includes, uses all of it. Both compute true float32 products; results differ by rounding only.

torch has no public function for float32 products by oneDNN (torch.backends.mkldnn routes bfloat16 and TF32 only). This module calls an
internal one and falls back to MKL. NumPy's OpenBLAS is public and as fast on cached matrices, but slower than oneDNN between optimizer
steps, and its own threads compete with torch's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from data.rows import SparseBatch
from optim import cache

LIBRARIES = ("torch", "onednn")
# Products with fewer multiplications go to MKL: oneDNN's longer set-up made it slower there on every processor tried.
_LARGE = 2**24
_WORTH_IT = 1.1  # near ties go to torch: repeated measurements then agree
# Outputs, inputs and batch size of the timed layers: the larger ones of figures 2 and 4.
_LAYERS = ((1000, 1000, 128), (500, 784, 100))
_library = "torch"


def use(library: str) -> str:
    """Chooses the library for large float32 products on the CPU, for this process.

    Args:
        library: `torch`, `onednn`, or `auto`: the faster one, measured once per processor and version of torch.

    Returns:
        `torch` or `onednn`; always `torch` if this version of torch does not offer oneDNN.

    Raises:
        ValueError: the name is unknown.
    """
    global _library
    if library not in (*LIBRARIES, "auto"):
        raise ValueError(f"products={library} is invalid: expected auto, {' or '.join(LIBRARIES)}")
    if library == "torch" or not is_available():
        _library = "torch"
    else:
        _library = "onednn" if library == "onednn" or _kept_speedup() > _WORTH_IT else "torch"
    return _library


def _kept_speedup() -> float:
    """Returns `speedup` from the user's cache; measures it the first time."""

    def measure(folder: Path) -> Path:
        path = folder / "speedup"
        path.write_text(f"{speedup():.2f}")
        return path

    key = ("speedup of oneDNN", cache.processor(), torch.__version__, str(_LAYERS))
    return cache.cached("\0".join(key), ".txt", measure, lambda path: float(path.read_text()))


def library() -> str:
    """Returns the library for large float32 products in this process, `torch` or `onednn`."""
    return _library


def is_available() -> bool:
    """Returns whether this version of torch multiplies float32 matrices with oneDNN, correctly."""
    a, b = torch.randn(3, 5), torch.randn(5, 2)
    try:
        product = _onednn(a, b)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(product, a @ b, rtol=1e-4, atol=1e-5)


def speedup(rounds: int = 9) -> float:
    """Returns the median speedup of oneDNN over MKL on large layers, forward and backward.

    Measures with one thread, so that the choice, and thus a run's last bits, does not depend on the number of threads.
    """
    layers = [tuple(torch.randn(*shape) for shape in ((o, i), (i, b), (o, b))) for o, i, b in _LAYERS]

    def seconds(multiply: Callable[[Tensor, Tensor], Tensor]) -> float:
        start = time.perf_counter()
        for weight, inputs, pull in layers:
            multiply(weight, inputs), multiply(pull, inputs.mT), multiply(weight.mT, pull)
        return time.perf_counter() - start

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = [(seconds(torch.matmul), seconds(_onednn)) for _ in range(rounds + 1)][1:]  # without the warm-up round
    finally:
        torch.set_num_threads(threads)
    return statistics.median(mkl / onednn for mkl, onednn in pairs)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Returns a b for a [stacks, rows, inner] and b [stacks, inner, columns]; not differentiable."""
    if not _is_routed(a, b):
        return torch.bmm(a, b)
    if len(a) == 1:
        return _onednn(a[0], b[0]).unsqueeze(0)
    return torch.stack([_onednn(left, right) for left, right in zip(a, b, strict=True)])


def _is_routed(a: Tensor, b: Tensor) -> bool:
    """Returns whether oneDNN computes this product."""
    return _library == "onednn" and a.shape[1] * b.shape[1] * b.shape[2] >= _LARGE and a.dtype == torch.float32 and a.device.type == "cpu"


def _onednn(a: Tensor, b: Tensor) -> Tensor:
    linear = torch.ops.mkldnn._linear_pointwise  # (inputs, weight): inputs weight^T
    if a.stride(-1) == 1:
        return linear(a, b.mT, None, "none", [], "")
    # Full speed needs contiguous rows in the first factor: transpose, so that only the smaller factor is copied.
    return linear(b.mT.contiguous(), a, None, "none", [], "").mT.contiguous()


def affine(weight: Tensor, bias: Tensor, inputs: Tensor | SparseBatch) -> Tensor:
    """Returns weight inputs + bias, differentiable once with respect to all three, except sparse inputs.

    Args:
        weight: shape [stacks, outputs, features].
        bias: shape [stacks, outputs, 1].
        inputs: shape [stacks, features, batch], or a sparse minibatch [stacks, batch, features].

    Returns:
        Shape [stacks, outputs, batch].
    """
    if isinstance(inputs, SparseBatch) or (_is_routed(weight, inputs) and not torch.is_autocast_enabled("cpu")):
        return _Affine.apply(weight, bias, inputs)
    return torch.baddbmm(bias, weight, inputs)


def sparse_matmul(weight: Tensor, inputs: SparseBatch) -> Tensor:
    """Returns weight inputs^T [stacks, outputs, batch], by SciPy: several times faster than torch's sparse products (`make bench`)."""
    streams, batch, features = inputs.shape
    columns = weight.mT.reshape(streams * features, -1)
    return torch.from_numpy(inputs.blocks @ columns.numpy()).view(streams, batch, -1).mT


def sparse_weight_gradient(pull: Tensor, inputs: SparseBatch) -> Tensor:
    """Returns pull inputs [stacks, outputs, features], for `pull`, the gradient with respect to the outputs [stacks, outputs, batch]."""
    streams, _, features = inputs.shape
    columns = pull.mT.reshape(inputs.blocks.shape[0], -1)
    return torch.from_numpy(inputs.blocks.T @ columns.numpy()).view(streams, features, -1).mT


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, bias, inputs):
        if isinstance(inputs, SparseBatch):
            ctx.sparse = inputs
            return sparse_matmul(weight.detach(), inputs) + bias
        ctx.sparse = None
        ctx.save_for_backward(weight, inputs)
        return matmul(weight, inputs).add_(bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, pull):
        bias_gradient = pull.sum(2, keepdim=True)
        if ctx.sparse is not None:
            return sparse_weight_gradient(pull, ctx.sparse), bias_gradient, None
        weight, inputs = ctx.saved_tensors
        inputs_gradient = matmul(weight.mT, pull) if ctx.needs_input_grad[2] else None
        return matmul(pull, inputs.mT), bias_gradient, inputs_gradient
