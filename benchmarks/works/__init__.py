"""What is raced: one module for each kind of work, each with ``works() -> list[Work]``."""
