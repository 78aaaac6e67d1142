"""The trainer that ReFL and reward models share: loop, backend, updates, checkpoints, trackers."""
