"""Write the parts of the documentation that the code says already."""
