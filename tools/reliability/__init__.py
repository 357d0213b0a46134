"""What was found out about promises, and the page that shows it."""
