"""One pass over memory on a CPU: an update rule as one loop of C, for all parameters together.

Compiling takes about a second, once on a machine (`optim.cache`). Without a C compiler optimizers run the rule on tensors.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
from array import array
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from optim.cache import cached
from optim.tensors import Entry, Step
from optim.trace import Code, Signature, trace

_SOURCE = """
{header}
/* Of each parameter, `rows` has the addresses of theta, state and g, the number of elements and of members, and its place;
   of each hyper-parameter, `values` has the address where it is a tensor and 1 if that has a value per member. */
void step(long long parameters, const long long *rows, const double *times, const long long *values, const double *numbers,
          long long total, int threads)
{{
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int part = 0; part < threads; part++) {{
    /* This part's share of all elements, wherever parameters and members begin and end. */
    long long first = total * part / threads, last = total * (part + 1) / threads, offset = 0;
    for (long long p = 0; p < parameters && offset < last; p++) {{
      const long long *tensors = rows + p * ({tensors} + 3), size = tensors[{tensors}], members = tensors[{tensors} + 1];
      const long long length = members ? size / members : 0;
      const double t = times[p];
      const unsigned int key = mix((unsigned int)(long long)t * 0x9e3779b9u + (unsigned int)tensors[{tensors} + 2]);
{pointers}
      for (long long member = 0; member < members; member++) {{
        long long start = offset + member * length, end = start + length;
        start = start > first ? start : first, end = end < last ? end : last;
        if (start >= end) continue;
{loads}
{scalars}
        for (long long i = start - offset; i < end - offset; i++) {{
{elements}
        }}
      }}
      offset += size;
    }}
  }}
}}
"""

# Elements per thread from which another thread pays.
_ELEMENTS_PER_THREAD = 32_768
_CPU = torch.device("cpu")
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")


def source(code: Code, signature: Signature) -> str:
    """The C source of one step."""
    loads = "\n".join(
        f"const double h{k} = values[{2 * k}] ? ((const double *)values[{2 * k}])[values[{2 * k + 1}] * member] : numbers[{k}];"
        for k in range(len(signature.letters))
    )
    return _SOURCE.format(tensors=2 + signature.states, loads=loads, **vars(code))


@functools.cache
def kernel(signature: Signature) -> Callable | None:
    """The compiled step, or None where there is no C compiler that can make it: a function like `apply`, without its first argument."""
    try:
        function = ctypes.CDLL(_library(source(trace(signature), signature))).step
    except (OSError, subprocess.CalledProcessError):
        return None
    function.restype = None
    pointer, number = ctypes.c_void_p, ctypes.c_longlong
    function.argtypes = [number, pointer, pointer, pointer, pointer, number, ctypes.c_int]
    return functools.partial(apply, function)


def apply(function: Callable, step: Step, entries: list[Entry]) -> None:
    """Replaces theta and state of every parameter by what the rule makes of them.

    Args:
        function: the compiled step.
        step: what the parameters have in common.
        entries: the parameters.
    """
    if step.found_inf is not None and step.found_inf.item():  # of a model that lies on several devices
        return
    rows, total, members, values, numbers = [], 0, 1, [], []
    letters = step.letters_on(_CPU)
    for h in letters.values():
        if isinstance(h, Tensor):
            values += (h.data_ptr(), h.ndim)
            numbers.append(0.0)
            members = len(h) if h.ndim else members
        else:
            values += (0, 0)
            numbers.append(h)
    for entry in entries:
        total += entry.size
        rows += entry.addresses
        rows += (entry.g.data_ptr(), entry.size, members, entry.place)
    tables = array("q", rows), array("d", step.count(entries)), array("q", values), array("d", numbers)
    threads = max(1, min(torch.get_num_threads(), total // _ELEMENTS_PER_THREAD))
    function(len(entries), *[table.buffer_info()[0] for table in tables], total, threads)
    # Autograd must know that they have changed, as it does after torch's own in-place operations.
    torch.autograd.graph.increment_version([tensor for entry in entries for tensor in (entry.theta, *entry.tensors)])


def _library(text: str) -> str:
    """The path of the shared library made from C source, compiled unless it has been before on a processor like this."""
    compiler = shlex.split(os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang") or "")
    if not compiler:
        raise OSError("no C compiler")
    processor = Path("/proc/cpuinfo")
    features = (
        next((line for line in processor.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
        if processor.exists()
        else ""
    )

    def make(folder: Path) -> Path:
        code, library = folder / "step.c", folder / "step.so"
        code.write_text(text)
        command = [*compiler, *_FLAGS, str(code), "-o", str(library), "-lm"]
        if subprocess.run([*command, "-fopenmp"], capture_output=True).returncode:  # some compilers come without OpenMP
            subprocess.run(command, check=True, capture_output=True)
        return library

    return str(cached("\0".join((text, *compiler, *_FLAGS, features)), ".so", make))
