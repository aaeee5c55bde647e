"""The start of Ray, or the use of the Ray that is there."""
