"""Pydantic models of the YAML. No torch here."""
