"""`python -m sd_imagereward.core.cli`: the command where it is not on the PATH."""

import sys

from . import main

sys.exit(main())
