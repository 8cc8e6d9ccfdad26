"""How much memory a call needs at its peak."""

import contextlib
import ctypes
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

STATUS = Path('/proc/self/status')
MACHINE = Path('/proc/meminfo')
# A 5 written there makes the peak of the process, VmHWM, its present size.
RESET = Path('/proc/self/clear_refs')


def field(file: Path, name: str) -> int:
    """Bytes from a line such as ``VmRSS:  123 kB`` of a file under /proc."""
    for line in file.read_text().splitlines():
        key, _, value = line.partition(':')
        if key == name:
            return int(value.split()[0]) * 1024
    raise KeyError(name)


def peak_memory(run: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that a call of ``run`` holds at most, beyond what is held before it.

    On CUDA what PyTorch's allocator hands out, elsewhere the resident memory of the process. Call
    ``run`` once before: a first call also loads libraries and fills caches.

    Returns:
        int | None: None where no peak can be reset (other than Linux).
    """
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    # glibc keeps what earlier calls freed, and a call that takes from there would look free.
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # macOS and musl have none
    if trim is not None:
        trim(0)
    try:
        RESET.write_text('5')
    except OSError:
        return None
    before = field(STATUS, 'VmRSS')
    run()
    return max(0, field(STATUS, 'VmHWM') - before)


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Let what asks for more memory than the machine has left fail, where Linux would kill us."""
    if not MACHINE.exists():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    most = field(STATUS, 'VmSize') + field(MACHINE, 'MemAvailable')
    limits = [most] + [limit for limit in before if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
