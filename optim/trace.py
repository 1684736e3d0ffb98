"""The translation of update rules to C, for `optim.fused_cpu` and `optim.fused_cuda`.

The rule is called with symbols that record its operations instead of tensors. Arithmetic of hyper-parameters and t alone runs in
double precision, once per parameter and member. Arithmetic of elements runs in the parameters' precision (half precision: float), as
the body of one loop. Operations, their order and their rounding are those of the rule, except that a division of elements by one
number becomes a multiplication by its reciprocal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

# C types of the supported dtypes in memory.
STORAGE = {torch.float64: "double", torch.float32: "float", torch.bfloat16: "bfloat16", torch.float16: "float16"}

# Definitions for both compilers: NVRTC has no headers, a CPU's compiler gets plain C.
HEADER = """
#ifdef __CUDACC__
#define FUNCTION static __device__ inline
#else
#include <tgmath.h>
#define FUNCTION static inline
#endif
typedef unsigned short bfloat16;
typedef unsigned short float16;
union bits {{ float value; unsigned int bits; }};
typedef {real} real;

FUNCTION real maximum(real a, real b) {{ return a != a || a > b ? a : b; }}

FUNCTION double load_double(double x) {{ return x; }}
FUNCTION float load_float(float x) {{ return x; }}
FUNCTION float load_bfloat16(bfloat16 x) {{ union bits u; u.bits = (unsigned int)x << 16; return u.value; }}

FUNCTION double store_double(double x) {{ return x; }}
FUNCTION float store_float(float x) {{ return x; }}
FUNCTION bfloat16 store_bfloat16(float x)
{{
  union bits u; u.value = x;
  if (x != x) return 0x7fc0;
  return (u.bits + 0x7fff + (u.bits >> 16 & 1)) >> 16; /* to nearest, ties to even */
}}

#ifdef __CUDACC__
FUNCTION float load_float16(float16 x) {{ float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x)); return y; }}
FUNCTION float16 store_float16(float x) {{ float16 y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x)); return y; }}
#elif {half}
union half {{ _Float16 value; float16 bits; }};
FUNCTION float load_float16(float16 x) {{ union half u; u.bits = x; return u.value; }}
FUNCTION float16 store_float16(float x) {{ union half u; u.value = x; return u.bits; }}
#endif

/* Random bits for stochastic rounding, the same as in round_at_random of optim/tensors.py. */
FUNCTION unsigned int mix(unsigned int x)
{{
  x ^= x >> 16; x *= 0x21f0aaadu; x ^= x >> 15; x *= 0x735a2d97u; return x ^ x >> 15;
}}
FUNCTION bfloat16 store_bfloat16_at_random(float x, unsigned int noise)
{{
  union bits u; u.value = x;
  return (u.bits & 0x7f800000) == 0x7f800000 ? store_bfloat16(x) : (u.bits + (noise & 0xffff)) >> 16;
}}
"""


@dataclass(frozen=True)
class Signature:
    """What the code of a compiled step depends on.

    Attributes:
        rule: (theta, g, *state, t, **hyperparameters) -> (theta, *state).
        states: number of state tensors.
        hyperparameters: their names.
        theta: dtype of parameters and gradients.
        state: dtype of the state.
        stochastic: whether new parameters are rounded to bfloat16 at random.
    """

    rule: Callable
    states: int
    hyperparameters: tuple[str, ...]
    theta: torch.dtype
    state: torch.dtype
    stochastic: bool = False


@dataclass(frozen=True)
class Code:
    """The C code of one step.

    Attributes:
        header: definitions.
        scalars: computes the doubles d0, d1, ... from t and the hyper-parameters h0, h1, ...
        numbers: number of these doubles.
        pointers: sets x0, x1, ... (theta, state, g) from a table `tensors` of addresses.
        elements: reads and writes element i of each; stochastic rounding uses an unsigned int `key`.
    """

    header: str
    scalars: str
    numbers: int
    pointers: str
    elements: str


class _Program:
    """The lines of C that a rule records: `scalars` before the loop over elements, `elements` in it."""

    def __init__(self):
        self.scalars: list[str] = []
        self.elements: list[str] = []

    def emit(self, template: str, *operands) -> _Symbol:
        """Appends an operation, to `scalars` if all its operands are scalars, and returns its result."""
        scalar = all(not isinstance(operand, _Symbol) or operand.scalar for operand in operands)
        texts = [operand.text if isinstance(operand, _Symbol) else repr(float(operand)) for operand in operands]
        if not scalar:  # as in torch, numbers take the precision of the elements
            texts = [
                text if isinstance(operand, _Symbol) and not operand.scalar else f"(real){text}"
                for text, operand in zip(texts, operands, strict=True)
            ]
        lines, kind, letter = (self.scalars, "double", "d") if scalar else (self.elements, "real", "r")
        name = f"{letter}{len(lines)}"
        lines.append(f"const {kind} {name} = {template.format(*texts)};")
        return _Symbol(self, name, scalar)


class _Symbol:
    """A number or an element in the arithmetic of a rule."""

    def __init__(self, program: _Program, text: str, scalar: bool):
        self.program, self.text, self.scalar = program, text, scalar

    def sqrt(self) -> _Symbol:
        return self.program.emit("sqrt({})", self)

    def abs(self) -> _Symbol:
        return self.program.emit("fabs({})", self)

    def __neg__(self) -> _Symbol:
        return self.program.emit("-{}", self)

    def __truediv__(self, other) -> _Symbol:
        if isinstance(other, _Symbol) and other.scalar and not self.scalar:
            reciprocal = self.program.emit("{} / {}", 1, other)  # unless memory bounds the step, divisions do
            return self.program.emit("{} * {}", self, reciprocal)
        return self.program.emit("{} / {}", self, other)

    def __eq__(self, other) -> _Symbol:  # type: ignore[override]  # element by element, as of tensors
        return self.program.emit("{} == {}", self, other)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        program = next(argument.program for argument in args if isinstance(argument, cls))
        return program.emit({torch.maximum: "maximum({}, {})", torch.where: "{} ? {} : {}"}[function], *args)


for _name, _template in {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "truediv": "{} / {}", "pow": "pow({}, {})"}.items():
    if _name != "truediv":
        setattr(_Symbol, f"__{_name}__", lambda self, other, _template=_template: self.program.emit(_template, self, other))
    setattr(_Symbol, f"__r{_name}__", lambda self, other, _template=_template: self.program.emit(_template, other, self))


def trace(signature: Signature) -> Code:
    """Returns the C code of one step of the rule."""
    program = _Program()
    # In the order of the table: theta, state, g.
    kinds = [STORAGE[signature.theta], *[STORAGE[signature.state]] * signature.states, STORAGE[signature.theta]]
    theta, *state, g = [program.emit("{}", _Symbol(program, f"load_{kind}(x{k}[i])", scalar=False)) for k, kind in enumerate(kinds)]
    values = {name: _Symbol(program, f"h{k}", scalar=True) for k, name in enumerate(signature.hyperparameters)}
    results = signature.rule(theta, g, *state, _Symbol(program, "t", scalar=True), **values)
    stores = [f"store_{kind}({result.text})" for kind, result in zip(kinds[:-1], results, strict=True)]
    if signature.stochastic:
        stores[0] = f"store_bfloat16_at_random({results[0].text}, mix((unsigned int)i ^ key))"
    stores = [f"x{k}[i] = {store};" for k, store in enumerate(stores)]
    return Code(
        header=HEADER.format(real="double" if signature.theta is torch.float64 else "float", half=int("float16" in kinds)),
        scalars="\n".join(program.scalars),
        numbers=len(program.scalars),
        pointers="\n".join(f"{kind} *__restrict__ x{k} = ({kind} *)tensors[{k}];" for k, kind in enumerate(kinds)),
        elements="\n".join(program.elements + stores),
    )
