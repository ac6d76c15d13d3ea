"""The checks of `doctor`. Every check also works if its subject is missing or broken, and reports that."""

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssd.errors import ArgumentError
from ssd.system.doctor.declared import DISTRIBUTION, declared, extra_names, installed, release
from ssd.system.python_environment import other_python

_OPENCV = ("opencv-python", "opencv-python-headless")
_OTHER_OPENCV = ("opencv-contrib-python", "opencv-contrib-python-headless")
_SMALL_SHM = 256 * 2**20  # a few batches of two workers


@dataclass(frozen=True)
class Finding:
    """The result of one check, and the command that fixes a problem."""

    what: str
    state: Literal["ok", "note", "problem"]
    text: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Run every check, from Python upwards."""
    yield python()
    yield from requirements()
    yield opencv_wheels()
    yield opencv_import()
    yield from torch_and_devices()
    yield from extras()
    yield from folders()


def python() -> Finding:
    """Which Python this is; without the packages, it is most likely not the one that was meant."""
    text = f"{platform.python_version()} on {platform.platform()}, {sys.executable}"
    lacking = installed("torch") is None
    return Finding("python", "note" if lacking else "ok", text, other_python() if lacking else "")


def requirements() -> Iterator[Finding]:
    """This package's version, and what it requires that is missing or of another version."""
    version, wanted = installed(DISTRIBUTION), list(declared())
    needed = [(each, installed(each.name)) for each in wanted if each.extra is None]
    wrong = [(each, found) for each, found in needed if not each.accepts(found)]
    if wrong:
        listed = ", ".join(f"{each} ({found or 'missing'})" for each, found in wrong)
        remedy = "pip install " + " ".join(f'"{each}"' for each, _ in wrong)
        yield Finding(DISTRIBUTION, "problem", f"{version or 'never installed'}; wrong: {listed}", remedy)
    elif version is None:
        text = "runs from a folder and was never installed; what it requires is there"
        yield Finding(DISTRIBUTION, "note", text, "pip install -e .")
    else:
        shown = ", ".join(f"{name} {installed(name)}" for name in ("torch", "torchvision", "numpy", "albumentations"))
        yield Finding(DISTRIBUTION, "ok", f"{version}; {shown}")


def opencv_wheels() -> Finding:
    """Whether the wheels that share the folder `cv2/` have one version.

    opencv-python is required here, albumentations brings opencv-python-headless, and whichever is installed last
    overwrites the other's files: of different versions, a half-initialised `cv2` remains.
    """
    found = {name: version for name in (*_OPENCV, *_OTHER_OPENCV) if (version := installed(name)) is not None}
    shown = ", ".join(f"{name} {version}" for name, version in found.items()) or "no wheel of OpenCV is installed"
    newest = max(found.values(), key=release, default="")
    names = " ".join(found or _OPENCV)
    pinned = " ".join(f"{name}=={newest}" for name in found) if newest else " ".join(_OPENCV)
    remedy = f"pip uninstall -y {names} && pip install {pinned}"
    if not found or len(set(found.values())) > 1:
        return Finding("opencv wheels", "problem", f"{shown}: they share one folder and must be of one version", remedy)
    if any(name in found for name in _OTHER_OPENCV):
        text = f"{shown}: a contrib wheel owns the same folder; it works as long as the versions stay equal"
        return Finding("opencv wheels", "note", text, f"pip uninstall -y {' '.join(_OTHER_OPENCV)}")
    return Finding("opencv wheels", "ok", shown)


def opencv_import() -> Finding:
    """Whether `cv2` imports, which wheel's files it is made of, and whether they are of the version installed."""
    try:
        cv2 = importlib.import_module("cv2")
        version, headless = cv2.__version__, bool(cv2.version.headless)
    except (ImportError, AttributeError) as error:
        return Finding("cv2", "problem", f"cannot be imported: {error}", _opencv_remedy(str(error)))
    winner = _OPENCV[headless]
    text = f"{version}, the files of {winner}"
    promised = installed(winner) or next(filter(None, map(installed, (*_OPENCV, *_OTHER_OPENCV))), version)
    if release(version)[:3] != release(promised)[:3]:
        pinned = " ".join(f"{name}=={promised}" for name in _OPENCV)
        remedy = f"pip uninstall -y {' '.join(_OPENCV)} && pip install {pinned}"
        return Finding("cv2", "problem", f"{text}, but {promised} is what is recorded as installed", remedy)
    return Finding("cv2", "ok", text)


def torch_and_devices() -> Iterator[Finding]:
    """PyTorch, the processor's instructions, and the precision that `auto` means here."""
    try:
        import torch

        from ssd.system.device import choose_device, choose_dtype, cpu_features
    except (ImportError, OSError) as error:
        yield Finding("torch", "problem", f"cannot be imported: {error}", 'pip install --force-reinstall "torch>=2.10"')
        return
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs alone"
    yield Finding("torch", "ok", f"{torch.__version__}, {cuda}, {torch.get_num_threads()} threads")
    has = [name for name, there in cpu_features().items() if there]
    precision = str(choose_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
    yield Finding("processor", "ok", f"{os.cpu_count()} cores; {', '.join(has) or 'no AVX2'}; auto means {precision}")
    if not torch.cuda.is_available():
        state: Literal["ok", "note"] = "note" if shutil.which("nvidia-smi") else "ok"
        remedy = "Install the CUDA build of torch that fits the driver." if state == "note" else ""
        text = "none for PyTorch, though nvidia-smi is there" if state == "note" else "none; everything runs on the CPU"
        yield Finding("gpu", state, text, remedy)
        return
    names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
    precision = str(choose_dtype("auto", choose_device("cuda"))).removeprefix("torch.")
    yield Finding("gpu", "ok", f"{names}; auto means {precision}")


def extras() -> Iterator[Finding]:
    """Each optional feature: its packages, or the command that brings them."""
    wanted: dict[str, list[tuple[str, bool]]] = {extra: [] for extra in extra_names()}
    for requirement in declared():
        if requirement.extra in wanted:
            found = installed(requirement.name)
            good = requirement.accepts(found)
            wanted[requirement.extra].append((f"{requirement.name} {found}" if good else requirement.name, good))
    for extra, packages in wanted.items():
        missing = [name for name, good in packages if not good]
        text = ", ".join(name for name, good in packages if good) or "not installed"
        remedy = f'pip install "{DISTRIBUTION}[{extra}]"' if missing else ""
        if missing and len(missing) < len(packages):
            text += f"; without {', '.join(missing)}"
        yield Finding(f"extra {extra}", "note" if missing else "ok", text, remedy)
    strict = installed("simplejpeg")
    text = f"simplejpeg {strict}" if strict else "simplejpeg is not installed: damage inside JPEG files stays unseen"
    yield Finding("check-data --deep", "ok" if strict else "note", text, "" if strict else "pip install simplejpeg")


def folders() -> Iterator[Finding]:
    """Where files will be written, whether they can be, and how much room there is."""
    from ssd.system.download import cache_folder

    try:
        cache = _writable("cache", cache_folder(), "Set SSD_HOME to a folder of yours.")
    except ArgumentError as error:
        cache = Finding("cache", "problem", error.problem, error.remedy)
    yield cache
    yield _writable("runs", Path("runs").absolute(), "Change to a folder of yours, or set output=FOLDER.")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        text = f"{size / 2**20:,.0f} MB, through which data workers hand over batches"
        small = size < _SMALL_SHM
        remedy = "Start the container with --shm-size=1g, or set data.workers=0." if small else ""
        yield Finding("/dev/shm", "note" if small else "ok", text, remedy)


def _opencv_remedy(reason: str) -> str:
    """The remedy for an import that failed without a system library, as in slim containers and on servers."""
    if "libGL" in reason or "libxcb" in reason or "libgthread" in reason or "libSM" in reason:
        headless = installed(_OPENCV[1])
        pinned = f"{_OPENCV[1]}{f'=={headless}' if headless else ''}"
        return (
            "apt-get install libgl1 libglib2.0-0 libxcb1; or, without a screen: "
            f"pip uninstall -y {' '.join(_OPENCV)} && pip install {pinned}"
        )
    return f"pip uninstall -y {' '.join(_OPENCV)} && pip install {' '.join(_OPENCV)}"


def _writable(what: str, folder: Path, remedy: str) -> Finding:
    """Try to write where there is a folder already, or where it would be made."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(what, "problem", f"{folder} cannot be written to ({error.strerror})", remedy)
    free = shutil.disk_usage(place).free / 1e9
    return Finding(what, "ok", f"{folder}{'' if folder.exists() else ' (not made yet)'}, {free:.1f} GB free")
