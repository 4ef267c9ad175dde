"""What runs: clocks, links to devices and broker, the daemon around the core."""
