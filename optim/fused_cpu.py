"""The fused path on a CPU: an update rule compiled to one C loop over all parameters.

Compilation takes 0.2 s, once per machine (`optim.cache`). Without a C compiler, optimizers warn once and run the rule on tensors.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import shutil
import struct
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from .cache import cached, processor
from .plans import ParamPlan, Step
from .trace import Code, Signature, trace

_SOURCE = """
{header}
/* The end of a thread's share inside a parameter, rounded down to a cache line: no two threads write one line, and no vector straddles
   two. */
static long long cut(long long place, long long size) {{ return place >= size ? size : place > 0 ? place / {line} * {line} : 0; }}

/* `rows` has, for each parameter: numbers of elements and members, noise key, addresses of step (t before this step), theta, state, g.
   `values` has, for each hyper-parameter: the address if it is a tensor, else 0; 1 if it has one value per member, else 0. */
void step(long long parameters, const long long *rows, const long long *values, const double *numbers, long long total, int threads)
{{
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int part = 0; part < threads; part++) {{
    /* Shares divide all elements evenly, across the borders of parameters and members. */
    const long long first = total * part / threads, last = total * (part + 1) / threads;
    long long offset = 0;
    for (long long p = 0; p < parameters && offset < last; p++) {{
      const long long *row = rows + p * ({tensors} + 4), *tensors = row + 4, size = row[0], members = row[1];
      const long long length = members ? size / members : 0;
      const long long begin = cut(first - offset, size), stop = cut(last - offset, size);
      const double t = *(const double *)row[3] + 1;
      const unsigned int key = mix((unsigned int)(long long)t * 0x9e3779b9u + (unsigned int)row[2]);
{pointers}
      for (long long member = 0; member < members; member++) {{
        long long start = member * length, end = start + length;
        start = start > begin ? start : begin, end = end < stop ? end : stop;
        if (start >= end) continue;
{loads}
{scalars}
        for (long long i = start; i < end; i++) {{
{elements}
        }}
      }}
      offset += size;
    }}
  }}
  for (long long p = 0; p < parameters; p++) ++*(double *)rows[p * ({tensors} + 4) + 3];
}}
"""

# Elements per thread below which another thread costs more than it saves.
_ELEMENTS_PER_THREAD = 32_768
# Elements that fill whole cache lines of 64 bytes in every dtype, including the 2-byte ones.
_LINE = 32
_CPU = torch.device("cpu")
_address = struct.Struct("q").pack
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")


def source(code: Code, signature: Signature) -> str:
    """Returns the C source of one step."""
    loads = "\n".join(
        f"const double h{k} = values[{2 * k}] ? ((const double *)values[{2 * k}])[values[{2 * k + 1}] * member] : numbers[{k}];"
        for k in range(len(signature.hyperparameters))
    )
    return _SOURCE.format(tensors=2 + signature.states, loads=loads, line=_LINE, **vars(code))


@functools.cache
def kernel(signature: Signature) -> Callable | None:
    """Returns `apply` with its first argument bound to the compiled step, or None if the C source cannot be compiled."""
    try:
        function = load(source(trace(signature), signature)).step
    except (OSError, AttributeError, subprocess.CalledProcessError) as error:
        _warn_once(str(error))
        return None
    function.restype = None
    pointer, number = ctypes.c_void_p, ctypes.c_longlong
    function.argtypes = [number, pointer, pointer, pointer, number, ctypes.c_int]
    return functools.partial(apply, function)


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"optimizers take 2 to 4 times as long as torch's on a CPU, because no C code can be compiled ({reason}): "
        "install a C compiler, or set CC",
        stacklevel=2,
    )


def apply(function: Callable, step: Step, plans: list[ParamPlan]) -> None:
    """Increments t and updates theta and state of every parameter in place.

    Args:
        function: the compiled step.
        step: the settings of the group.
        plans: the parameters.
    """
    if step.found_inf is not None and step.found_inf.item():  # of a model on several devices
        return
    hyperparameters = step.hyperparameters_on(_CPU).values()
    numbers, values = list(hyperparameters), bytes(16 * len(hyperparameters))
    if not step.numbers:
        pairs = [(h.data_ptr(), h.ndim) if isinstance(h, Tensor) else (0, 0) for h in hyperparameters]
        values = b"".join(struct.pack("2q", *pair) for pair in pairs)
        numbers = [0.0 if isinstance(h, Tensor) else h for h in hyperparameters]
    rows: list[bytes] = []
    changed: list[Tensor] = []
    total = 0
    for plan in plans:
        rows += plan.row, _address(plan.g.data_ptr())
        changed += plan.theta, *plan.tensors
        total += plan.size
    few = _after_fork or total < 2 * _ELEMENTS_PER_THREAD
    threads = 1 if few else min(torch.get_num_threads(), total // _ELEMENTS_PER_THREAD)
    function(len(plans), b"".join(rows), values, struct.pack(f"{len(numbers)}d", *numbers), total, threads)
    increment_version(changed)  # lets autograd detect the in-place changes, as for torch's own operations


# A forked child lacks the threads of its parent's OpenMP pool and would wait for them for ever.
_after_fork = False


def _forked() -> None:
    global _after_fork
    _after_fork = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def load(text: str) -> ctypes.CDLL:
    """Returns the shared library for C source, from the cache if it was compiled before on such a processor.

    Raises:
        OSError: there is no C compiler.
        subprocess.CalledProcessError: the compiler fails.
    """
    compiler = shlex.split(os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang") or "")
    if not compiler:
        raise OSError("no C compiler found")

    def make(folder: Path) -> Path:
        code, library = folder / "step.c", folder / "step.so"
        code.write_text(text)
        command = [*compiler, *_FLAGS, str(code), "-o", str(library), "-lm"]
        if subprocess.run([*command, "-fopenmp"], capture_output=True).returncode:  # some compilers lack OpenMP
            subprocess.run(command, check=True, capture_output=True)
        return library

    return cached("\0".join((text, *compiler, *_FLAGS, processor())), ".so", make, lambda path: ctypes.CDLL(str(path)))
