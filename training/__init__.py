"""Parts of a training: arguments, initial model, optimizer, state, checkpoints, teachers and export."""
