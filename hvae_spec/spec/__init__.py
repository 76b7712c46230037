"""The language of a spec: its sections, YAML with places, checks, messages. No torch; it reads no file but specs."""
