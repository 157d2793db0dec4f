"""Shapes of arrays (jaxtyping), and the one value that means "unlabelled".

Those of tensors are in `agmm.tensors`, so that what needs no network does not wait for torch.
"""

import numpy as np
from jaxtyping import UInt8

IGNORE_INDEX = 255
"""Unlabelled, or not to be counted; never a class, and never the background."""

ImageArray = UInt8[np.ndarray, "H W 3"]
MaskArray = UInt8[np.ndarray, "H W"]
