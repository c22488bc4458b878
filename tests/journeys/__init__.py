"""The whole, as a newcomer or an operator meets it: real processes, real HTTP, real stores."""
