from pathlib import Path

import pytest

from ssd.system import cpu
from ssd.system.cpu import cpu_name, vendor_and_family

LINUX = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model name\t: AMD EPYC 9554 64-Core Processor
flags\t\t: fpu avx2

processor\t: 1
vendor_id\t: GenuineIntel
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nCPU part\t: 0xd40\n"


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def set_up(cpuinfo: str | None, processor: str = "") -> None:
        cpu._facts.cache_clear()
        path = tmp_path / "cpuinfo"
        if cpuinfo is not None:
            path.write_text(cpuinfo, encoding="utf-8")
        monkeypatch.setattr(cpu, "_CPUINFO", path)
        monkeypatch.setattr("platform.processor", lambda: processor)
        monkeypatch.setattr("platform.machine", lambda: "aarch64")

    yield set_up
    cpu._facts.cache_clear()


def test_linux_says_it_in_a_file(system) -> None:
    system(LINUX)
    assert vendor_and_family() == ("AuthenticAMD", 25)
    assert cpu_name() == "AMD EPYC 9554 64-Core Processor"


def test_windows_says_it_in_the_name_of_the_processor(system) -> None:
    system(None, "AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD")
    assert vendor_and_family() == ("AuthenticAMD", 25)
    assert cpu_name() == "AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD"


@pytest.mark.parametrize("cpuinfo", [None, "", ARM])
def test_a_system_that_does_not_say(system, cpuinfo: str | None) -> None:
    system(cpuinfo)
    assert vendor_and_family() == ("", 0)
    assert cpu_name() == "aarch64"
