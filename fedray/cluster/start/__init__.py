"""Starting Ray, or using the Ray that is there."""
