"""Learning: a minibatch, its gradients, an update, again; and the history of how it went.

``fitting`` has the four steps; ``validation`` looks at what is given, ``progress`` shows how far it is, and ``history``
keeps how it went.
"""

from microgrid.environment import require

require("numpy", "learning with mg.fit", "compile")

from microgrid.steps import Measured, is_right
from microgrid.training.fitting import evaluate, fit
from microgrid.training.history import History, TrainingError

__all__ = ["History", "Measured", "TrainingError", "evaluate", "fit", "is_right"]
