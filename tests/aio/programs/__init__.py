"""Servers that exist, each as one program for any event loop, and what clients see of them."""
