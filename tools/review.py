import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works from a checkout that is not installed

from ssd.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["review", *sys.argv[1:]]))
