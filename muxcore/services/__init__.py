"""Services made of the verbs."""
