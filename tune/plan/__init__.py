"""What runs, and what runs together: packs, forecasts, the schedule. Neither torch nor Ray here."""
