"""What every trainer shares: where an update runs, optimisers, averages, interrupts."""
