"""What is decided on a caller's behalf, on both backends: may it, does the state allow it, what
changes, and which event says so."""
