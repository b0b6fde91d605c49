"""Other people's event loops behind our contract: the yardstick and the oracle of the engines."""
