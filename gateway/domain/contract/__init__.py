"""What goes over the wire: every event and command, one struct each, with what makes it one fact."""
