"""The ways to devices: one folder per protocol, the only importers of the protocols' libraries."""
