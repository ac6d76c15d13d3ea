"""`python -m ssd` is the `ssd` command."""

import sys

from ssd.commands.main import main

sys.exit(main())
