"""Member-batched networks: the paper's Section 2. No pydantic here."""
