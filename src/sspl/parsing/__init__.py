"""Face parsing: the network that teaches PST and PCT, its training and its masks."""
