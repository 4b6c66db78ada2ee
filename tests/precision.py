"Trainings that are compared with each other, in double precision."
from contextlib import contextmanager

import torch


@contextmanager
def double_precision():
    """All new tensors in float64, and what asks for float32 gets float64 too.

    Networks that train against each other multiply every rounding error by about ten with each of their steps: in float32 a training of 15
    iterations differs by 5e-3 in a loss and by 1e-2 in a weight from the same one with the last bit of one weight changed. In float64 two
    ways of computing the same agree to 1e-12 at the end, and a difference between them that is no rounding still shows."""
    dtype, narrow = torch.get_default_dtype(), torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    try: yield
    finally:
        torch.set_default_dtype(dtype)
        torch.Tensor.float = narrow
