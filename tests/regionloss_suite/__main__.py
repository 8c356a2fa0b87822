"""`python -m regionloss_suite`: the command line where nothing is installed but the sources are on the path."""

import sys

from regionloss_suite.cli.main import main

sys.exit(main())
