"""Tags that are fields of structures: learned from the server, taken out, and put in."""
