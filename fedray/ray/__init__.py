"""The machines: the only floor that imports Ray."""
