"""
Runs the command of its arguments, which gets TERM when whoever started this ends, even by kill -9.

A program of its own, as nothing but exec may happen between fork and exec where the parent has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    starter = int(sys.argv[1])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == starter:  # else it ended before we could ask to be told
        os.execvp(sys.argv[2], sys.argv[2:])
