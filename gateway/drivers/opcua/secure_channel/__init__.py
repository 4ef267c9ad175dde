"""The link to a server: who it is, who we are, the channel and the session on it."""
