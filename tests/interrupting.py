"""Ctrl-C before any one instruction of the package: a trace function raises where a signal handler may."""

import sys
from pathlib import Path

import microgrid

PACKAGE = str(Path(microgrid.__file__).parent)


def interrupted(call, at):
    """Call; before the ``at``-th instruction of the package that it runs, raise KeyboardInterrupt.

    Return whether it came to that; whatever comes of the KeyboardInterrupt then.
    """
    left = at

    def at_each_instruction(frame, event, argument):
        nonlocal left
        if event == "opcode":
            left -= 1
            if not left:
                raise KeyboardInterrupt
        return at_each_instruction

    def at_each_call(frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        return at_each_instruction

    before = sys.gettrace()
    sys.settrace(at_each_call)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return left <= 0
