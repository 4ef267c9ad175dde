"""What a machine says of itself: in which state it is, since when, in which shift; its alarms."""
