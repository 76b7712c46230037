"""Records: what is kept of every member, and where. No torch: plans and notebooks read records without it."""
