"""Ray's Jobs API: what is submitted, and how its end is learnt."""
