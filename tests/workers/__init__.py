"""What time does, tried with the time passed in, and once with a real worker process."""
