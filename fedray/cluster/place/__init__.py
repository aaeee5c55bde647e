"""Placement of workers on nodes, and questions to nodes."""
