"""`python -m regionloss_suite`: the command line of a checkout that is on the path but not installed."""

import sys

from regionloss_suite.cli.main import main

sys.exit(main())
