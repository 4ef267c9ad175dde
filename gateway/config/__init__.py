"""YAML to one frozen, fully checked plant; every error with file and line, none of them touching the network."""
