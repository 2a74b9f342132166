"""Names for the arrays of the core: seconds, shares and gains are floats, steps and counts are integers."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
