"""Configuration: registries of parts, the sections of a YAML file, and its layers."""
