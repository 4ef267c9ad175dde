"""What is brought down to a machine: the handshakes, the download, its allow-list, locks."""
