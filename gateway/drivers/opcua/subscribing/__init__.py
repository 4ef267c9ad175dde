"""How values come: subscriptions and what they notify of, the decoder, polling, history."""
