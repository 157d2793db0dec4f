"""Shapes of tensors (jaxtyping).

Axes: b images, k classes, d feature channels, H and W pixels, h and w cells of the feature
grid, n cells of the flattened grid.
"""

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Images = Float[Tensor, "b 3 H W"]
Logits = Float[Tensor, "b k H W"]
Features = Float[Tensor, "b d h w"]
Masks = Int64[Tensor, "b H W"]
ValidPixels = Bool[Tensor, "b H W"]
