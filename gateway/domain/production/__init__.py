"""What was made: readings to pieces, pieces to windows and orders, and the past that is told anew."""
