"""Training: the loop, a step, checkpoints and progress."""
