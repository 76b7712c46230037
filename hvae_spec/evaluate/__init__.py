"""How a trained member is measured, and what its figures show."""
