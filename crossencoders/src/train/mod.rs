//! Training: optimiser, schedule, losses, checkpoints.
