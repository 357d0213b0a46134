"""`transom demo`: the whole way on one machine, by the commands that a user would type."""
