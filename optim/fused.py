"""One pass over memory: an update rule translated to C, compiled once per machine and cached.

The rule is called with symbols instead of tensors. What it does to them is written down in two parts: arithmetic of
hyper-parameters and t alone, in double precision and once per parameter and member, and arithmetic of elements, in the
parameters' precision, as the body of one loop. The numbers come out as from the rule itself: the same operations in the
same order, each rounded to the parameters' precision.

Compiling takes about a second, once on a machine. Without a C compiler optimizers run the rule on tensors, as on a GPU.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

TYPES = {torch.float32: "float", torch.float64: "double"}

_SOURCE = """
#include <tgmath.h>
#include <stdint.h>
typedef {type} real;
static inline real maximum(real a, real b) {{ return a != a || a > b ? a : b; }}

/* Tensors stand one below the other in `tensors`: theta, g and the state of the first parameter, then of the next. */
void step(int64_t parameters, real **tensors, const int64_t *sizes, const int64_t *members, const double *steps,
          const double *const *hyperparameters, const int64_t *strides, int64_t total, int threads)
{{
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int part = 0; part < threads; part++) {{
    /* This part's share of all elements, wherever parameters and members begin and end. */
    int64_t first = total * part / threads, last = total * (part + 1) / threads, offset = 0;
    for (int64_t p = 0; p < parameters && offset < last; offset += sizes[p], p++) {{
      int64_t length = members[p] ? sizes[p] / members[p] : 0;
      for (int64_t member = 0; member < members[p]; member++) {{
        int64_t start = offset + member * length, end = start + length;
        start = start > first ? start : first, end = end < last ? end : last;
        if (start >= end) continue;
        const double t = steps[p];
{loads}
{scalars}
{pointers}
        for (int64_t i = start - offset; i < end - offset; i++) {{
{elements}
        }}
      }}
    }}
  }}
}}
"""


class _Program:
    """What a rule does, as lines of C: `scalars` before the loop over elements, `elements` in it."""

    def __init__(self):
        self.scalars: list[str] = []
        self.elements: list[str] = []

    def emit(self, template: str, *operands) -> _Symbol:
        """Appends the operation; it is one of scalars if all its operands are."""
        scalar = all(not isinstance(operand, _Symbol) or operand.scalar for operand in operands)
        texts = [operand.text if isinstance(operand, _Symbol) else repr(float(operand)) for operand in operands]
        if not scalar:  # as in torch, a number takes the precision of the elements that it meets
            texts = [
                text if isinstance(operand, _Symbol) and not operand.scalar else f"(real){text}"
                for text, operand in zip(texts, operands, strict=True)
            ]
        lines, kind = (self.scalars, "double") if scalar else (self.elements, "real")
        name = f"{kind[0]}{len(lines)}"
        lines.append(f"const {kind} {name} = {template.format(*texts)};")
        return _Symbol(self, name, scalar)


class _Symbol:
    """A number or an element that the rule calculates with."""

    def __init__(self, program: _Program, text: str, scalar: bool):
        self.program, self.text, self.scalar = program, text, scalar

    def sqrt(self) -> _Symbol:
        return self.program.emit("sqrt({})", self)

    def abs(self) -> _Symbol:
        return self.program.emit("fabs({})", self)

    def __eq__(self, other) -> _Symbol:
        return self.program.emit("{} == {}", self, other)

    __hash__ = None

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        program = next(argument.program for argument in args if isinstance(argument, cls))
        return program.emit({torch.maximum: "maximum({}, {})", torch.where: "{} ? {} : {}"}[function], *args)


for _name, _template in {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "truediv": "{} / {}", "pow": "pow({}, {})"}.items():
    setattr(_Symbol, f"__{_name}__", lambda self, other, _template=_template: self.program.emit(_template, self, other))
    setattr(_Symbol, f"__r{_name}__", lambda self, other, _template=_template: self.program.emit(_template, other, self))


def source(rule: Callable, states: int, hyperparameters: int, dtype: torch.dtype) -> str:
    """The C source of one step of the rule, for parameters of that dtype."""
    program = _Program()
    tensors = [_Symbol(program, f"x{k}[i]", scalar=False) for k in range(2 + states)]
    values = [_Symbol(program, f"h{k}", scalar=True) for k in range(hyperparameters)]
    results = rule(*tensors, _Symbol(program, "t", scalar=True), *values)
    targets = [tensors[0], *tensors[2:]]
    stores = [f"{target.text} = {result.text};" for target, result in zip(targets, results, strict=True)]
    pointers = [f"real *restrict x{k} = tensors[p * {2 + states} + {k}];" for k in range(2 + states)]
    loads = [f"const double h{k} = hyperparameters[{k}][strides[{k}] * member];" for k in range(hyperparameters)]
    parts = {"loads": loads, "scalars": program.scalars, "pointers": pointers, "elements": program.elements + stores}
    return _SOURCE.format(type=TYPES[dtype], **{name: "\n".join(lines) for name, lines in parts.items()})


# Elements per thread from which another thread pays.
_ELEMENTS_PER_THREAD = 32_768
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")


@functools.cache
def kernel(rule: Callable, states: int, hyperparameters: int, dtype: torch.dtype) -> Callable | None:
    """The compiled step of the rule, or None where there is no C compiler that can make it."""
    try:
        step = ctypes.CDLL(_library(source(rule, states, hyperparameters, dtype))).step
    except (OSError, subprocess.CalledProcessError):
        return None
    step.restype = None
    return functools.partial(step)  # which can be the key of a dictionary


def can_take(tensors: list[Tensor], per_member: bool) -> bool:
    """Whether one loop can run over theta, g and state: on the CPU, of one dtype, dense and laid out alike."""
    theta = tensors[0]
    dense = theta.is_contiguous() or (theta.ndim == 4 and not per_member and theta.is_contiguous(memory_format=torch.channels_last))
    return (
        dense
        and theta.dtype in TYPES
        and all(x.device.type == "cpu" and x.dtype == theta.dtype and x.stride() == theta.stride() for x in tensors)
    )


def apply(step: Callable, parameters: list[tuple[list[Tensor], int]], hyperparameters: list[float | Tensor]) -> None:
    """Replaces theta and state of every parameter by what the rule makes of them, in one pass over memory.

    Args:
        step: a `kernel`.
        parameters: [theta, g, *state] of each, and the number t of this step.
        hyperparameters: a number each, or a tensor with one value per member.
    """
    stacks, times = zip(*parameters, strict=True)
    sizes = [stack[0].numel() for stack in stacks]
    per_member = [isinstance(h, Tensor) and h.ndim > 0 for h in hyperparameters]
    values = [  # these stay alive until the step has been made
        h.to("cpu", torch.float64).contiguous() if several else ctypes.c_double(h)
        for h, several in zip(hyperparameters, per_member, strict=True)
    ]
    members = [len(stack[0]) if any(per_member) else 1 for stack in stacks]
    threads = max(1, min(torch.get_num_threads(), sum(sizes) // _ELEMENTS_PER_THREAD))
    step(
        ctypes.c_int64(len(parameters)),
        _array(ctypes.c_void_p, [tensor.data_ptr() for stack in stacks for tensor in stack]),
        _array(ctypes.c_int64, sizes),
        _array(ctypes.c_int64, members),
        _array(ctypes.c_double, times),
        _array(ctypes.c_void_p, [value.data_ptr() if isinstance(value, Tensor) else ctypes.addressof(value) for value in values]),
        _array(ctypes.c_int64, per_member),
        ctypes.c_int64(sum(sizes)),
        ctypes.c_int(threads),
    )
    # Autograd must know that they have changed, as it does after torch's own in-place operations.
    torch.autograd.graph.increment_version([tensor for stack in stacks for tensor in (stack[0], *stack[2:])])


def _array(kind, values):
    return (kind * len(values))(*values)


def _library(text: str) -> str:
    """The path of the shared library made from C source, compiled unless it has been before on a processor like this."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise OSError("no C compiler")
    processor = Path("/proc/cpuinfo")
    features = next((line for line in processor.read_text().splitlines() if line.startswith("flags")), "") if processor.exists() else ""
    key = hashlib.sha256("\0".join((text, compiler, *_FLAGS, features)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adam-paper"
    library = folder / f"{key}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            code, made = Path(temporary) / "step.c", Path(temporary) / "step.so"
            code.write_text(text)
            command = [compiler, *_FLAGS, str(code), "-o", str(made), "-lm"]
            if subprocess.run([*command, "-fopenmp"], capture_output=True).returncode:  # some compilers come without OpenMP
                subprocess.run(command, check=True, capture_output=True)
            os.replace(made, library)
    return str(library)
