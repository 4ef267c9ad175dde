"""Machine models: pure, seeded and stepped. No I/O, no clock; everything is a closed form of the line's own time."""
