"""Silos: clients whose rows stay where they lie."""
