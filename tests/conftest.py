"""What all tests share: nothing is read from, or left in, the user's cache."""

import os

os.environ["LUTHIER_CACHE"] = ""  # before the switches are first read, and for the processes that tests start
