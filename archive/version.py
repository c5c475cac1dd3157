"""The version of this project, which what travels must know without its distribution's metadata."""

VERSION = "0.1.0"
"""Sets and images name it; pyproject.toml takes it from here."""
