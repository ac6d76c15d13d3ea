"""The sections of the GPU check, in order."""

from collections.abc import Sequence

from ssd.benchmark.gpu import correctness, timings, whole_path
from ssd.benchmark.gpu.sections import Section
from ssd.errors import ArgumentError

CHECK = (
    Section("facts", 12.0, correctness.facts),
    Section("tests", 60.0, correctness.tests),
    Section("matching and loss", 6.0, correctness.matching_and_loss),
    Section("post-processing", 10.0, correctness.postprocessing),
    Section("detection", 20.0, correctness.detection),
    Section("CUDA graphs", 15.0, correctness.graphs),
    Section("no waiting", 5.0, correctness.no_waiting),
    Section("fifty steps", 20.0, correctness.fifty_steps),
    Section("resume", 25.0, correctness.resume),
)
SPEED = (
    Section("network speed", 70.0, timings.network),
    Section("inference speed", 30.0, whole_path.inference),
    Section("post-processing speed", 25.0, timings.postprocessing),
    Section("detection speed", 25.0, timings.detection),
    Section("training speed", 45.0, timings.training),
    Section("loader speed", 45.0, timings.loader),
    Section("nvJPEG", 8.0, timings.nvjpeg),
    Section("compiled", 60.0, timings.compiled),
)


def chosen_sections(part: str, only: Sequence[str] | None = None) -> list[Section]:
    """The sections of `part` (check, speed, all), or those of them named in `only`.

    Raises:
        ArgumentError: there is no section of that name.
    """
    sections = {"check": CHECK, "speed": SPEED, "all": (*CHECK, *SPEED)}[part]
    names = [section.name for section in sections]
    for name in only or ():
        if name not in names:
            problem, remedy = f"no section {name!r}", f"Choose from: {', '.join(names)}."
            raise ArgumentError(problem, place="--only", remedy=remedy)
    return [section for section in sections if only is None or section.name in only]
