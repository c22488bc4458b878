"""Who is asking, and is that true: tokens, keys, secrets, callers, and the settings behind them."""
