"""The audit: what was done to the machines, for whom and with what result, as a chain that shows every change to it."""
