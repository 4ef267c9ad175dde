"""Machines that take parameters in each of the ways that machine builders use, with what goes wrong in them.

`machine` is one machine, `ways` how it is told and how it answers as a table, `faults` what it does badly.
"""
