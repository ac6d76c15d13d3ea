"""The same targets under atheris, which looks for inputs that reach new lines of this package.

`python -m tests.reliability.fuzz_guided TARGET --seconds 20` prints a line of JSON when time is up. An input that is
answered neither by a result nor by an error of ours ends it with a traceback and exit code 77.
"""

import argparse
import json
import logging
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["ssd.data", "ssd.experiment.config", "ssd.images.decode", "ssd.weights.native", "ssd.settings"]
):
    from tests.reliability.targets import fresh

from ssd.errors import SSDError


def main() -> None:
    """Fuzz one target for some seconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=20)
    args = parser.parse_args()
    logging.disable()
    warnings.simplefilter("error")
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        seeds, call = fresh(args.target, Path(folder))
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)

        def run(data: bytes) -> None:
            try:
                call(data)
            except SSDError as error:
                seen[type(error).__name__] += 1
            else:
                seen["accepted"] += 1
            # libFuzzer leaves through _exit, so the counts are told as they grow.
            if sum(seen.values()) % 50 == 0:
                print(json.dumps({"target": args.target, "inputs": sum(seen.values()), **seen}), flush=True)

        words = [f"-max_total_time={args.seconds}", "-max_len=4096", "-timeout=5", "-rss_limit_mb=6000", "-verbosity=0"]
        words.append(f"-artifact_prefix={folder}/")
        atheris.Setup([sys.argv[0], *words, str(corpus)], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
