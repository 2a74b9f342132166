"""For all tests: a defect in a command is never one line, but the traceback that says where it is."""

import os

os.environ["EDGESPLIT_DEBUG"] = "1"
