"""Array-shape aliases (jaxtyping) and the one value that means "unlabelled".

Axes: b images, k classes, d feature channels, H and W pixels, h and w cells of the feature
grid, n cells of the flattened grid.
"""

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

IGNORE_INDEX = 255
"""Unlabelled, or not to be counted; never a class, and never the background."""

ImageArray = UInt8[np.ndarray, "H W 3"]
MaskArray = UInt8[np.ndarray, "H W"]

Images = Float[Tensor, "b 3 H W"]
Logits = Float[Tensor, "b k H W"]
Features = Float[Tensor, "b d h w"]
Masks = Int64[Tensor, "b H W"]
ValidPixels = Bool[Tensor, "b H W"]
