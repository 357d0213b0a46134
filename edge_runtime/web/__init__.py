"""The page: what the cameras see, and labels for what the network was unsure of."""
