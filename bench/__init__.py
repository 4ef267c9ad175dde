"""How fast the gateway is, measured whole: real sockets, a real broker, one process for each part.

`make bench` runs all of it and prints the tables of docs/performance.md. Nothing here is a test: machines are noisy,
so what is compared is measured in one run, and what is judged is CPU time, which a busy neighbour changes little.
"""
