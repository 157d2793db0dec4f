"""The method: adaptive Gaussian mixtures of the labels in feature space.

Everything here needs only torch: `AGMMLoss` works in any PyTorch loop.
"""

from agmm.mixture.inputs import Need, ObjectiveOutput
from agmm.mixture.losses import absent_class, partial_cross_entropy
from agmm.mixture.objective import AGMMLoss
from agmm.mixture.pseudo_labels import PseudoLabels, joint_probabilities, pseudo_labels
from agmm.mixture.published_2023 import AGMM2023Loss

__all__ = [
    "AGMM2023Loss",
    "AGMMLoss",
    "Need",
    "ObjectiveOutput",
    "PseudoLabels",
    "absent_class",
    "joint_probabilities",
    "partial_cross_entropy",
    "pseudo_labels",
]
