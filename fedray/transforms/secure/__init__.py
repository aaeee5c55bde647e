"""Secure aggregation: shares of secrets, who shares masks with whom, masks, and whole numbers for updates."""
