"""Real models of the smallest size through the whole loop: what they say, and how much of it can be used."""
