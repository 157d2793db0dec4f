"""Every exception that a user can meet.

A message names the file or argument, what was expected, what came, and the remedy.
"""


class AgmmError(Exception):
    """Base of all errors that are the input's fault and not the program's."""


class ConfigError(AgmmError, ValueError):
    """An argument or a config value that cannot be used."""


class InputError(AgmmError, ValueError):
    """Tensors or arrays with a wrong shape, type or value at a public function."""


class DataError(AgmmError):
    """A file or folder that is missing, unreadable, or does not fit its partners."""


class TooLargeError(DataError):
    """A picture that is too large to be read or held as it is asked for."""


class ContradictionError(DataError):
    """Two labels of one picture that cannot both be true."""


class WeightsError(AgmmError):
    """Weights or a checkpoint that cannot be found, read safely, or matched."""


class NonFiniteLossError(AgmmError):
    """A term of the loss became infinite or NaN."""
