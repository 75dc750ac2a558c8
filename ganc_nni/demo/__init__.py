"""A page on this machine on which teacher and compressed generator answer a person's images side by side."""
