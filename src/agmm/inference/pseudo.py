"""From a labelled picture to its posterior and pseudo labels."""
