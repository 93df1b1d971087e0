"""Ctrl-C before any one instruction of the package: a trace function raises where a signal handler may."""

import sys
from pathlib import Path

import microgrid

PACKAGE = str(Path(microgrid.__file__).parent)


class Interruptions:
    """Raise KeyboardInterrupt after so many instructions of the package, once each time that it is armed.

    Python stops tracing when a trace function raises, so for each further interruption ``arm()`` is called again.
    """

    def __init__(self, *waits):
        self.waits, self.left, self.raised = list(waits), 0, 0

    def arm(self):
        if self.waits:
            self.left = self.waits.pop(0)
            sys.settrace(self._at_each_call)

    def _at_each_call(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        return self._at_each_instruction

    def _at_each_instruction(self, frame, event, argument):
        if event == "opcode":
            self.left -= 1
            if not self.left:
                self.raised += 1
                raise KeyboardInterrupt
        return self._at_each_instruction

    def during(self, call):
        """Call; return whether it was interrupted, whatever it made of that."""
        before = sys.gettrace()
        self.arm()
        try:
            call()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        return self.raised > 0


def interrupted(call, at):
    """Call, and interrupt it before its ``at``-th instruction; return whether there was one."""
    return Interruptions(at).during(call)
