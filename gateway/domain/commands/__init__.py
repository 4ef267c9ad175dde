"""Commands from the MES: taken in, judged, carried out, answered finally exactly once."""
