"""The fused path on a GPU: an update rule compiled to one CUDA kernel, with up to 40 parameters per launch.

The table of tensors is an argument of the launch. A step therefore copies nothing to the device, never synchronises, and can be
captured by a CUDA graph. NVRTC, which torch ships, compiles the kernel in well under a second, once per machine (`optim.cache`). If
that fails, optimizers run the rule on tensors.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from .cache import cached
from .plans import ParamPlan, Step
from .trace import Code, Signature, trace

# Parameters per launch. The largest table of any rule must fit into the 4 KiB of a launch's arguments.
CAPACITY = 40
# Elements per block of threads; a block works on one member of one parameter.
CHUNK = 4096
THREADS = 256

_SOURCE = """
{header}
struct table {{
  void *tensors[{capacity}][{tensors}];   /* theta, state, g */
  const double *times[{capacity}];
  long long lengths[{capacity}];          /* elements of a member */
  int first_blocks[{capacity} + 1];
  unsigned int keys[{capacity}];
  const double *values[{hyperparameters}]; /* hyper-parameters that are tensors, else 0 */
  double numbers[{hyperparameters}];       /* hyper-parameters that are numbers */
  int strides[{hyperparameters}];          /* 1 for one value per member, else 0 */
  const float *found_inf;
}};

extern "C" __global__ void __launch_bounds__({threads}) step(const __grid_constant__ struct table table)
{{
  if (table.found_inf && *table.found_inf) return;
  int p = 0;
  while ((int)blockIdx.x >= table.first_blocks[p + 1]) p++;
  const long long length = table.lengths[p], chunks = (length + {chunk} - 1) / {chunk};
  const long long block = blockIdx.x - table.first_blocks[p], member = block / chunks;
  const long long start = block % chunks * {chunk}, end = start + {chunk} < length ? start + {chunk} : length;
  const double t = *table.times[p];
  const unsigned int key = mix((unsigned int)(long long)t * 0x9e3779b9u + table.keys[p]);
{loads}
  /* One thread computes the numbers that all threads share. */
  __shared__ double shared[{numbers} + 1];
  if (threadIdx.x == 0) {{
{scalars}
{shares}
  }}
  __syncthreads();
{unshares}
  void *const *tensors = table.tensors[p];
{pointers}
#pragma unroll 4
  for (long long i = member * length + start + threadIdx.x; i < member * length + end; i += {threads}) {{
{elements}
  }}
}}
"""


def source(code: Code, signature: Signature) -> str:
    """Returns the CUDA source of one step."""
    count = len(signature.hyperparameters)
    return _SOURCE.format(
        capacity=CAPACITY,
        chunk=CHUNK,
        threads=THREADS,
        tensors=2 + signature.states,
        hyperparameters=max(count, 1),
        loads="\n".join(
            f"  const double h{k} = table.values[{k}] ? table.values[{k}][table.strides[{k}] * member] : table.numbers[{k}];"
            for k in range(count)
        ),
        shares="\n".join(f"shared[{k}] = d{k};" for k in range(code.numbers)),
        unshares="\n".join(f"  const double d{k} = shared[{k}];" for k in range(code.numbers)),
        **vars(code),
    )


@functools.cache
def _table(tensors: int, hyperparameters: int) -> type[ctypes.Structure]:
    """Returns the ctypes type of `struct table`."""
    count = max(hyperparameters, 1)
    fields = {
        "tensors": (ctypes.c_void_p * tensors) * CAPACITY,
        "times": ctypes.c_void_p * CAPACITY,
        "lengths": ctypes.c_longlong * CAPACITY,
        "first_blocks": ctypes.c_int * (CAPACITY + 1),
        "keys": ctypes.c_uint * CAPACITY,
        "values": ctypes.c_void_p * count,
        "numbers": ctypes.c_double * count,
        "strides": ctypes.c_int * count,
        "found_inf": ctypes.c_void_p,
    }
    return type("Table", (ctypes.Structure,), {"_fields_": list(fields.items())})


def tables(
    hyperparameters: dict, plans: list[ParamPlan], times: list[Tensor], found_inf: Tensor | None
) -> Iterator[tuple[ctypes.Structure, int]]:
    """Yields the table and the number of blocks of each launch.

    Args:
        hyperparameters: numbers, or float64 tensors on the device of shape [] or [members].
        plans: the parameters.
        times: the t of each parameter, float64 on the device, shape [].
        found_inf: nonzero skips the step; float32 on the device, shape []. None: never skip.
    """
    members = next((len(h) for h in hyperparameters.values() if isinstance(h, Tensor) and h.ndim), 1)
    shared: dict[str, list] = {
        "values": [h.data_ptr() if isinstance(h, Tensor) else None for h in hyperparameters.values()],
        "numbers": [0.0 if isinstance(h, Tensor) else h for h in hyperparameters.values()],
        "strides": [h.ndim if isinstance(h, Tensor) else 0 for h in hyperparameters.values()],
    }
    for first in range(0, len(plans), CAPACITY):
        table = _table(len(plans[0].tensors) + 2, len(hyperparameters))()
        for name, values in shared.items():
            getattr(table, name)[: len(values)] = values
        table.found_inf = found_inf.data_ptr() if found_inf is not None else None
        blocks = 0
        for p, plan in enumerate(plans[first : first + CAPACITY]):
            length = plan.size // members
            table.tensors[p][:] = [*plan.addresses[1:], plan.g.data_ptr()]
            table.times[p] = times[first + p].data_ptr()
            table.lengths[p] = length
            table.keys[p] = plan.key
            blocks += members * -(-length // CHUNK)
            table.first_blocks[p + 1] = blocks
        if blocks:
            yield table, blocks


@functools.cache
def kernel(signature: Signature, device: torch.device) -> Callable | None:
    """Returns `apply` with its first two arguments bound to the compiled step, or None without NVRTC or driver."""
    try:
        torch.zeros((), device=device)  # makes the device current on this thread, as loading a module requires
        with torch.cuda.device(device):
            driver, function = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
            module, (major, minor) = ctypes.c_void_p(), torch.cuda.get_device_capability(device)
            _call(driver.cuModuleLoadData, ctypes.byref(module), _cubin(source(trace(signature), signature), f"sm_{major}{minor}"))
            _call(driver.cuModuleGetFunction, ctypes.byref(function), module, b"step")
    except OSError:  # no NVRTC, driver or writable folder
        return None
    except RuntimeError as error:
        warnings.warn(f"optimizers take the foreach path, because their CUDA code cannot be compiled or loaded: {error}", stacklevel=2)
        return None
    return functools.partial(apply, driver.cuLaunchKernel, function)


def apply(launch: Callable, function: ctypes.c_void_p, step: Step, plans: list[ParamPlan]) -> None:
    """Increments t and updates theta and state of every parameter in place, on the current stream.

    Args:
        launch: the driver's cuLaunchKernel.
        function: the compiled kernel.
        step: the settings of the group.
        plans: the parameters, all on one device.
    """
    device = plans[0].theta.device
    hyperparameters = step.hyperparameters_on(device)
    found_inf = step.found_inf.to(device, torch.float32) if step.found_inf is not None else None
    with torch.cuda.device(device):
        stream = ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
        times = cast("list[Tensor]", step.count(plans, on_device=True))
        for table, blocks in tables(hyperparameters, plans, times, found_inf):
            arguments = (ctypes.c_void_p * 1)(ctypes.addressof(table))
            launched = functools.partial(_call, launch, function, blocks, 1, 1, THREADS, 1, 1, 0, stream, arguments, None)
            try:
                launched()
            except _NoContext:  # this thread's first use of the device
                torch.zeros((), device=device)
                launched()
    # Lets autograd detect the in-place changes, as for torch's own operations.
    torch.autograd.graph.increment_version([tensor for plan in plans for tensor in (plan.theta, *plan.tensors)])


def _cubin(text: str, architecture: str) -> bytes:
    """Returns the machine code of CUDA source, from the cache if NVRTC compiled it before.

    Raises:
        OSError: there is no NVRTC, or no writable folder.
        RuntimeError: the source does not compile.
    """
    options = (f"--gpu-architecture={architecture}", "--fmad=false")
    library = _nvrtc()

    def make(folder: Path) -> Path:
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        _call(library.nvrtcCreateProgram, ctypes.byref(program), text.encode(), b"step.cu", 0, None, None)
        try:
            _call(library.nvrtcCompileProgram, program, len(options), (ctypes.c_char_p * len(options))(*(o.encode() for o in options)))
            _call(library.nvrtcGetCUBINSize, program, ctypes.byref(size))
            cubin = ctypes.create_string_buffer(size.value)
            _call(library.nvrtcGetCUBIN, program, cubin)
        except RuntimeError as error:
            _call(library.nvrtcGetProgramLogSize, program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            _call(library.nvrtcGetProgramLog, program, log)
            raise RuntimeError(f"{error}: {log.value.decode()}") from error
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))
        path = folder / "step.cubin"
        path.write_bytes(cubin.raw)
        return path

    return cached("\0".join((text, *options, str(torch.version.cuda))), ".cubin", make, Path.read_bytes)


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    """Returns the run-time compiler of torch's CUDA version.

    Raises:
        OSError: torch is built without CUDA, or the library is missing.
    """
    if torch.version.cuda is None:
        raise OSError("torch is built without CUDA")
    name = f"libnvrtc.so.{torch.version.cuda.partition('.')[0]}"
    with contextlib.suppress(OSError):
        return ctypes.CDLL(name)
    packages = Path(torch.__file__).parent.parent / "nvidia"
    return ctypes.CDLL(str(next(packages.rglob(name), name)))


class _NoContext(RuntimeError):
    """CUDA_ERROR_INVALID_CONTEXT."""


def _call(function: Callable, *arguments) -> None:
    if status := function(*arguments):
        raise (_NoContext if status == 201 else RuntimeError)(f"{function.__name__} failed with status {status}")
