"""A setting of the C library for freed memory."""

import ctypes
import os

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_NEVER = -1
_GROW_BY = 64 * 2**20


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocation; says whether the C library can (glibc).

    A training step allocates and frees gigabytes in blocks of megabytes. By default glibc returns such blocks to the
    system and asks for them again, zeroed and page by page: 200,000 page faults a step for SSD300 at batch 8, which
    take 5 to 10 % of the CPU time of a step in bf16 without AMX, and with it 22 % of SSD512's. PyTorch's detection in
    batches of eight has 56,000, which are 5 % of its time without AMX. The price is a peak that is a tenth higher.
    Threads share one heap: their own would have 64 MB at most, so that larger blocks came from the system each time.
    It holds for the whole process: commands that train or compute on many images call it, and imports do not.
    """
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a C library that borrows the name
        return False
    # One heap, no blocks of their own from the system, no return of the heap's end, and growth in steps.
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _GROW_BY))
    return all(mallopt(name, value) == 1 for name, value in settings)
