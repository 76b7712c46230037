"""What is told of members while they are trained and evaluated, and who is told. No torch here."""
