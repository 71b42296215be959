"""One turn each of the chores of a queue, run by whoever is there; safe when several run them at once."""
