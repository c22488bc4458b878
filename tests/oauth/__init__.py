"""The OAuth endpoints over HTTP: what a standard client may rely on, and what an attacker finds."""
