"""The Python face of the C core, which is compiled into ``_core`` beside this file."""
