"""Which CPU this is."""

import functools
import platform
import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """The model's name, as the system gives it."""
    return _facts().get("model name") or platform.processor() or platform.machine()


def vendor_and_family() -> tuple[str, int]:
    """Such as `("AuthenticAMD", 25)` for Zen 3 and Zen 4; `("", 0)` where the system does not say."""
    facts = _facts()
    family = facts.get("cpu family", "")
    if family.isdecimal():
        return facts.get("vendor_id", ""), int(family)
    windows = re.search(r"Family (\d+) .*, (\w+)$", platform.processor())
    return (windows[2], int(windows[1])) if windows else ("", 0)


@functools.cache
def _facts() -> dict[str, str]:
    """The first core's lines of Linux's /proc/cpuinfo; empty on other systems."""
    if not _CPUINFO.is_file():
        return {}
    first_core = _CPUINFO.read_text(encoding="utf-8").strip().split("\n\n")[0]
    lines = (line.partition(":") for line in first_core.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
