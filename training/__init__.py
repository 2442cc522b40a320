"""Training: arguments, state, checkpoints, export."""
