"""Following the topics, and passing on what they bring to browsers."""
