"""How wrong logits are, image by image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def row_losses(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-loss of each row (for multi-label the mean over classes)."""
    if targets.ndim == 1:
        shifted = logits - logits.max(1, keepdims=True)
        chosen = shifted[np.arange(len(targets)), targets]
        out: NDArray[np.float64] = np.log(np.exp(shifted).sum(1)) - chosen
        return out
    losses: NDArray[np.float64] = (np.logaddexp(0, logits) - targets * logits).mean(1)
    return losses
