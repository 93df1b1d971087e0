"""Learning: a minibatch, its gradients, an update, again; and its history.

``fitting`` has the four steps; ``validation`` checks the arguments, ``progress`` shows the progress, and ``history``
keeps the results.
"""

from microgrid.environment import require

require("numpy", "learning with mg.fit", "compile")

from microgrid.steps import Measured, is_right
from microgrid.training.fitting import evaluate, fit
from microgrid.training.history import History, TrainingError

__all__ = ["History", "Measured", "TrainingError", "evaluate", "fit", "is_right"]
