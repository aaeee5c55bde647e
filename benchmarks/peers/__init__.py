"""Peers: other frameworks that do the same rounds of the same clients, each in an environment of its own."""
