"""What all tests share: nothing is read from, or left in, the user's cache, and Ctrl-C works."""

import os
import signal

os.environ["LUTHIER_CACHE"] = ""  # before the switches are first read, and for the processes that tests start

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
