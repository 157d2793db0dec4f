"""One frozen, validated config per stage; a recipe is its YAML.

Nothing heavy is imported here: the command line builds its help from these classes.
"""

from agmm.config.files import (
    STAGES,
    as_plain,
    from_plain,
    read_config,
    read_yaml,
    recipe_path,
    with_full_paths,
)
from agmm.config.pseudo import Checkpoint, PseudoConfig
from agmm.config.seeds import CamConfig, ClassifierConfig, GrabCutConfig
from agmm.config.train import (
    METHODS,
    Accelerator,
    Format,
    Method,
    Optimizer,
    Precision,
    TrainConfig,
)

__all__ = [
    "METHODS",
    "STAGES",
    "Accelerator",
    "CamConfig",
    "Checkpoint",
    "ClassifierConfig",
    "Format",
    "GrabCutConfig",
    "Method",
    "Optimizer",
    "Precision",
    "PseudoConfig",
    "TrainConfig",
    "as_plain",
    "from_plain",
    "read_config",
    "read_yaml",
    "recipe_path",
    "with_full_paths",
]
