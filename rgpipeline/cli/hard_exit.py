"""The end of the process, without Python's finalization."""

import atexit
import logging
import os
import sys
from contextlib import suppress


class HardExit:
    """Ends the process with `code` once every other exit handler has run.

    Python's finalization follows the exit handlers. A library's thread (Arrow's readers, gRPC)
    that asks for the interpreter then aborts the process: exit code 134 or 139, after all was
    done. Exit handlers run in the reverse order of their registration. So make this object before
    the command imports anything.
    """

    def __init__(self) -> None:
        self.code = 1
        atexit.register(self._exit)

    def _exit(self) -> None:
        logging.shutdown()  # its own handler was registered before this one
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):  # the reader is gone, or the stream closed
                    stream.flush()
        os._exit(self.code)
