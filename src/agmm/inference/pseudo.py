"""From a labelled picture to its posterior and pseudo labels."""

from typing import NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as transforms

from agmm.data.transforms import normalise
from agmm.labels.supervision import Supervision, resize
from agmm.mixture import pseudo_labels
from agmm.models.segmenter import Segmenter
from agmm.shapes import IGNORE_INDEX, ImageArray
