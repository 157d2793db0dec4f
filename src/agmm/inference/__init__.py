"""From a trained run to probabilities and masks."""
