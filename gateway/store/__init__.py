"""The record on disk: one SQLite file, one connection, one thread."""
