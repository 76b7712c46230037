"""What a command prints while a grid runs, before and after."""
